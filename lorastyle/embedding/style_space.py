"""`StyleSpace`: PCA and calibration for one task, from Gram matrices.

Section 4 of the paper fits two. `clustering`: PCA on the train adapters but the
last few of each artist, which calibrate. `retrieval`: PCA on all train adapters,
calibrated with queries made from training images.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.config import CalibrationForm, Experiment
from lorastyle.embedding.calibration import Calibration, fit_calibration
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.products import Gram
from lorastyle.embedding.space_file import (
    damaged,
    read_archive,
    table_from_facts,
    table_to_facts,
    write_archive,
)
from lorastyle.embedding.spectrum import Spectrum
from lorastyle.errors import StageError, TooFewAdaptersError
from lorastyle.records import UNLABELLED, Role
from lorastyle.store.adapter_store import TABLE_COLUMNS

Task = Literal["clustering", "retrieval"]
Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StyleSpace:
    """Where adapters of one representation and sub-network lie by style.

    `table` has one line an adapter (columns row, adapter_id, artist, genre, role,
    index) and may be any part of the embedded adapters that holds the fit ones.
    """

    task: Task
    representation: str
    sub_network: str
    table: pd.DataFrame
    fit_rows: Rows
    calibration_rows: Rows
    pca: Spectrum
    calibration: Calibration
    _raw: Scores = field(repr=False)
    """Uncalibrated scores of every adapter of the table, (n, k)."""
    origin: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    """Store rows about whose median the products of factors were taken; none for `delta`."""

    @property
    def n_components(self) -> int:
        """The most components there are scores for."""
        return self.pca.n_components_

    @property
    def is_calibrated(self) -> bool:
        """False where there were no calibration adapters, or none was wanted."""
        return len(self.calibration_rows) > 0 and not self.calibration.is_identity

    def calibrated_as(self, form: CalibrationForm) -> Self:
        """The same space with another form of calibration; the PCA is the same object."""
        calibration = _calibrate(self.table, self._raw, self.fit_rows, self.calibration_rows, form)
        return replace(self, calibration=calibration)

    def rows(self, role: Role | str) -> Rows:
        """Store rows to be measured in a role; for `train`, those the PCA saw."""
        if role == Role.TRAIN:
            return self.fit_rows
        here = self.table["role"] == str(role)
        return np.asarray(self.table.loc[here, "row"], np.int64)

    def artists(self, rows: Rows) -> npt.NDArray[np.object_]:
        """Artist of each row: (m,)."""
        return self.table["artist"].to_numpy(object)[self._positions(rows)]

    def scores(
        self, rows: Rows, *, calibrated: bool = True, n_components: int | None = None
    ) -> Scores:
        """Scores (m, k) of these rows on the first `n_components`.

        Fit adapters keep their PCA scores. Held-out ones are projected and, unless
        `calibrated` is False, calibrated.
        """
        positions = self._positions(rows)
        scores = self._raw[positions][:, :n_components]
        if not calibrated:
            return scores
        held_out = ~np.isin(rows, self.fit_rows)
        return np.where(held_out[:, None], self.calibration.apply(scores), scores)

    def project(
        self,
        cross: npt.ArrayLike,
        *,
        fit_means: npt.ArrayLike | None = None,
        calibrated: bool = True,
        n_components: int | None = None,
    ) -> Scores:
        """Scores (m, k) of adapters from their inner products (m, n_fit) with the fit ones.

        In the order of `fit_rows`. For vectors the products may be taken about any origin:
        that of the space, the median of the rows `origin` (`projection.project_adapters`
        sees to it), or another one together with `fit_means` (n_fit,), the mean product of
        the fit adapters with each of them about that origin. Raises StageError for
        products with others than the fit adapters.
        """
        cross = np.asarray(cross, np.float64)
        if cross.ndim != 2 or cross.shape[1] != len(self.fit_rows):
            raise StageError(
                f"the inner products have shape {cross.shape}, the space needs a column for each "
                f"of its {len(self.fit_rows)} fit adapters; take them with `fit_rows`"
            )
        means = None if fit_means is None else np.asarray(fit_means, np.float64)
        scores = self.pca.transform(cross, means)[:, :n_components]
        return self.calibration.apply(scores) if calibrated else scores

    def save(self, path: Path) -> None:
        """Write all that placing unseen adapters needs to one file, all of it or nothing."""
        rows = ("fit_rows", "calibration_rows", "origin", "_raw")
        arrays = {name: getattr(self, name) for name in rows}
        arrays |= {"scale": self.calibration.scale, "shift": self.calibration.shift}
        arrays |= {f"pca/{name}": array for name, array in self.pca.to_arrays().items()}
        facts = {name: getattr(self, name) for name in ("task", "representation", "sub_network")}
        write_archive(path, arrays, {**facts, "table": table_to_facts(self.table)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote, bit for bit. Raises StageError for anything else."""
        arrays, facts = read_archive(path)
        try:
            pca = {name[4:]: array for name, array in arrays.items() if name.startswith("pca/")}
            space = cls(
                facts["task"],
                facts["representation"],
                facts["sub_network"],
                table_from_facts(facts["table"]),
                arrays["fit_rows"],
                arrays["calibration_rows"],
                Spectrum.from_arrays(pca),
                Calibration(arrays["scale"], arrays["shift"]),
                arrays["_raw"],
                arrays["origin"],
            )
            space._check()
        except Exception as error:  # a file may say anything
            raise damaged(path) from error
        return space

    def _check(self) -> None:
        """Raise ValueError or KeyError where the parts do not belong together."""
        k, n_fit = self.n_components, len(self.fit_rows)
        shapes = [
            (self._raw, (len(self.table), k), np.float64),
            (self.calibration.scale, (k,), np.float64),
            (self.calibration.shift, (k,), np.float64),
            (self.fit_rows, (self.pca.n_fit_,), np.int64),
            (self.calibration_rows, (len(self.calibration_rows),), np.int64),
            (self.origin, (len(self.origin),), np.int64),
        ]
        fits = all(part.shape == shape and part.dtype == dtype for part, shape, dtype in shapes)
        finite = all(np.isfinite(part).all() for part, *_ in shapes)
        names = (self.task, self.representation, self.sub_network)
        if not (fits and finite and n_fit and all(isinstance(name, str) for name in names)):
            raise ValueError("the parts do not belong together")
        if self.task not in get_args(Task) or not set(TABLE_COLUMNS) <= set(self.table.columns):
            raise ValueError(f"the task is {self.task!r}, the columns {list(self.table.columns)}")
        self._positions(np.concatenate([self.fit_rows, self.calibration_rows]))

    def _positions(self, rows: Rows) -> Rows:
        position = pd.Index(self.table["row"]).get_indexer(pd.Index(np.asarray(rows, np.int64)))
        if (position < 0).any():
            raise KeyError(f"row {rows[int(np.argmin(position))]} is not in this style space")
        return np.asarray(position, np.int64)


def build_space(
    grams: GramSet,
    rows: pd.DataFrame | None = None,
    task: Task = "clustering",
    representation: str = "factors",
    sub_network: str = "full",
    *,
    max_components: int | None = None,
    form: CalibrationForm = "full",
    n_calibration: int = 3,
    gram: Gram | None = None,
) -> StyleSpace:
    """Fit the space of one task. Seconds at the paper's size, no pass over the store.

    `rows` is the part of `grams.table` to use (default: all). `n_calibration` is
    `protocol.calibration`, the last train adapters of each artist that calibrate
    clustering; retrieval ignores it. `gram` is `grams.matrix(representation, sub_network)`, for
    who has it at hand: a union of many groups takes time. Raises TooFewAdaptersError.
    """
    table = (grams.table if rows is None else rows).reset_index(drop=True)
    fit_rows, calibration_rows = split_rows(table, task, n_calibration)
    if len(fit_rows) < 2:
        raise TooFewAdaptersError(
            f"the {task} space needs at least 2 fit adapters, there are {len(fit_rows)}; train more"
        )
    if gram is None:
        gram = grams.matrix(representation, sub_network)
    fit, everyone = grams.positions(fit_rows), grams.positions(table["row"])
    pca = Spectrum(max_components).fit(gram[np.ix_(fit, fit)])
    raw = _raw_scores(pca, gram, fit, everyone)
    calibration = _calibrate(table, raw, fit_rows, calibration_rows, form)
    about = grams.provenance.origin if grams.provenance and representation == "factors" else ()
    return StyleSpace(
        task,
        representation,
        sub_network,
        table,
        fit_rows,
        calibration_rows,
        pca,
        calibration,
        raw,
        np.array(about, np.int64),
    )


def space_of(
    experiment: Experiment,
    grams: GramSet,
    rows: pd.DataFrame | None,
    task: Task,
    representation: str,
    sub_network: str,
    gram: Gram | None = None,
) -> StyleSpace:
    """The space as the experiment wants it; otherwise as `build_space`."""
    return build_space(
        grams,
        rows,
        task,
        representation,
        sub_network,
        max_components=experiment.embedding.max_components,
        form=experiment.embedding.calibration_form,
        n_calibration=experiment.protocol.calibration,
        gram=gram,
    )


def split_rows(table: pd.DataFrame, task: Task, n_calibration: int) -> tuple[Rows, Rows]:
    """Fit rows and calibration rows of a task, ascending.

    An artist whose adapters are too few keeps one to be fitted on. Adapters whose artist
    nobody knows are fitted on too: PCA needs no labels.
    """
    train = table[table["role"] == Role.TRAIN.value].sort_values("row")
    if task == "retrieval":
        queries = table.loc[table["role"] == Role.QUERY_CALIBRATION.value, "row"]
        return _sorted(train["row"]), _sorted(queries)
    by_artist = train.sort_values("index").groupby("artist")["index"]
    from_the_end = by_artist.cumcount(ascending=False)
    calibrates = (from_the_end < n_calibration) & (by_artist.cumcount() > 0)
    calibrates &= train["artist"] != UNLABELLED
    chosen = train.loc[calibrates.reindex(train.index), "row"]
    return _sorted(train.loc[~train["row"].isin(chosen), "row"]), _sorted(chosen)


def _sorted(rows: pd.Series[int]) -> Rows:
    return np.sort(rows.to_numpy(np.int64))


def _raw_scores(pca: Spectrum, gram: Gram, fit: Rows, everyone: Rows) -> Scores:
    raw = pca.transform(gram[np.ix_(everyone, fit)])
    # The eigendecomposition's own scores for fit rows: equal to rounding, but exact.
    place = {int(position): i for i, position in enumerate(fit)}
    for i, position in enumerate(everyone):
        if int(position) in place:
            raw[i] = pca.scores_[place[int(position)]]
    return raw


def _calibrate(
    table: pd.DataFrame,
    raw: Scores,
    fit_rows: Rows,
    calibration_rows: Rows,
    form: CalibrationForm,
) -> Calibration:
    if len(calibration_rows) == 0:
        return Calibration.identity(raw.shape[1])
    artists = table["artist"].to_numpy(object)
    fits = table["row"].isin(fit_rows).to_numpy()
    calibrates = table["row"].isin(calibration_rows).to_numpy()
    return fit_calibration(raw[calibrates], artists[calibrates], raw[fits], artists[fits], form)
