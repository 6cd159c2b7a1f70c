"""What the report reads: the files that earlier stages left in a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lorastyle.errors import StageError
from lorastyle.evaluation.swept import FinishedSweep
from lorastyle.records import UNLABELLED, Role
from lorastyle.report.palette import Palette, make_palette
from lorastyle.report.scores import best_space
from lorastyle.report.shown import NO_LABEL, FloatArray, Points
from lorastyle.report.sweep_results import SweepResults
from lorastyle.runs import STAGES, Run

FIT = Role.TRAIN.value
CALIBRATION = "calibration"
KINDS: tuple[str, ...] = (FIT, CALIBRATION, *(role.value for role in Role if role.value != FIT))
"""What an adapter is to a style space, in the order of legends."""


@dataclass(frozen=True)
class SpaceScores:
    """The first components of one style space.

    `adapters` has columns adapter_id, artist, genre and kind: the role, or
    `calibration` for the train adapters that calibrate instead of fitting.
    `calibrated` and `uncalibrated` are (m, k); NaN rows have no such place.
    """

    adapters: pd.DataFrame
    calibrated: FloatArray
    uncalibrated: FloatArray | None

    @property
    def n_components(self) -> int:
        return int(self.calibrated.shape[1])

    def points(self, *, calibrated: bool = True, x: int = 0, y: int = 1) -> Points:
        """Adapters on two components; those without a place are left out."""
        scores = self.calibrated
        if not calibrated and self.uncalibrated is not None:
            known = np.isfinite(self.uncalibrated[:, :1])
            scores = np.where(known, self.uncalibrated, self.calibrated)
        xy = scores[:, [x, min(y, self.n_components - 1)]]
        names = [self.adapters[name].to_numpy(dtype=str) for name in ("artist", "genre", "kind")]
        placed = np.asarray(np.isfinite(xy).all(axis=1))
        return Points(xy, *names).where(placed)


@dataclass(frozen=True)
class ReportSource:
    """Everything the page shows, read and put in order."""

    run: Run
    metrics: Mapping[str, Any]
    spaces: Mapping[str, SpaceScores]
    """By `REPRESENTATION/SUB_NETWORK`, as in the metrics."""
    curves: pd.DataFrame
    queries: pd.DataFrame
    calibration: pd.DataFrame
    """Scale and shift by setting, task and component."""
    catalogue: pd.DataFrame
    plan: pd.DataFrame
    """The adapters by row; no columns where they were ingested."""
    manifests: Mapping[str, Mapping[str, Any]]
    swept: SweepResults | None = None
    """Where the run has a sweep that its evaluation could choose by."""

    @property
    def top_k(self) -> int | None:
        """The cut-off of retrieval."""
        k = self.metrics.get("protocol", {}).get("k")
        return k if isinstance(k, int) else None

    def chosen_space(self, task: str) -> str | None:
        """The space that validation chose for a task: the sweep's, or the best that was scored."""
        winner = None if self.swept is None else self.swept.winner(task)
        if self.swept is not None and winner is not None:
            key = self.swept.key(winner)
            if key in self.metrics.get(task, {}):
                return key
        return best_space(self.metrics, task)

    @cached_property
    def genre_of(self) -> dict[str, str]:
        known = [space.adapters for space in self.spaces.values()]
        named = self.catalogue if len(self.catalogue) or not known else pd.concat(known)
        pairs = named[["artist", "genre"]].drop_duplicates("artist")
        return dict(zip(pairs["artist"].astype(str), pairs["genre"].astype(str), strict=True))

    @cached_property
    def artists(self) -> list[str]:
        return sorted(self.genre_of)

    @cached_property
    def genres(self) -> list[str]:
        return sorted(set(self.genre_of.values()))

    @property
    def n_artists(self) -> int:
        """Those that have a name."""
        return len(set(self.artists) - {NO_LABEL})

    @property
    def n_genres(self) -> int:
        """Those that have a name."""
        return len(set(self.genres) - {NO_LABEL})

    @cached_property
    def palette(self) -> Palette:
        return make_palette(self.genre_of)

    @cached_property
    def shown_space(self) -> str | None:
        """The space the map opens with: the one chosen for clustering, where there are scores."""
        chosen = self.chosen_space("clustering")
        if chosen in self.spaces:
            return chosen
        return next(iter(self.spaces), None)


def read_source(run: Run, sweep: FinishedSweep | None) -> ReportSource:
    """Read a run's results, all but its sweep. Raises StageError where it is not evaluated."""
    run.upstream_hash("evaluate")
    try:
        metrics = json.loads(run.metrics_path.read_text(encoding="utf-8"))
        scores = pd.read_parquet(run.evaluation_path / "scores.parquet")
        catalogue = _catalogue(run)
    except FileNotFoundError as error:
        raise StageError(
            f"{error.filename} is missing; run `lorastyle evaluate {run.location} --force`"
        ) from error
    return ReportSource(
        run=run,
        metrics=metrics,
        spaces=_spaces(scores),
        curves=_optional(run, "curves.parquet"),
        queries=_optional(run, "queries.parquet"),
        calibration=_optional(run, "calibration.parquet"),
        catalogue=catalogue,
        plan=pd.read_parquet(run.plan_path) if run.plan_path.exists() else pd.DataFrame(),
        manifests={stage: recorded for stage in STAGES if (recorded := run.manifest(stage))},
        swept=None if sweep is None else SweepResults(sweep.results, sweep.best),
    )


def _catalogue(run: Run) -> pd.DataFrame:
    """The images; none where adapters were ingested."""
    if not run.is_planned:
        return pd.DataFrame(columns=["image_id", "path", "artist", "genre"])
    return pd.read_parquet(run.catalogue_path)


def _optional(run: Run, name: str) -> pd.DataFrame:
    path = run.evaluation_path / name
    return pd.read_parquet(path) if path.exists() else pd.DataFrame()


def _spaces(scores: pd.DataFrame) -> dict[str, SpaceScores]:
    """One `SpaceScores` for each representation and sub-network in the table."""
    if scores.empty:
        return {}
    columns = [name for name in scores.columns if str(name).startswith("component_")]
    spaces: dict[str, SpaceScores] = {}
    for (representation, sub_network), rows in scores.groupby(
        ["representation", "sub_network"], sort=False
    ):
        final = rows[rows["calibrated"]].set_index("adapter_id")
        before = rows[~rows["calibrated"]].set_index("adapter_id")
        columns_here = [name for name in columns if final[name].notna().any()]
        spaces[f"{representation}/{sub_network}"] = SpaceScores(
            adapters=_adapters(final.reset_index()),
            calibrated=final[columns_here].to_numpy(dtype=np.float64),
            uncalibrated=before.reindex(final.index)[columns_here].to_numpy(dtype=np.float64)
            if len(before)
            else None,
        )
    return spaces


def _adapters(rows: pd.DataFrame) -> pd.DataFrame:
    calibrates = (rows["role"] == Role.TRAIN.value) & ~rows["fit"].astype(bool)
    kind = rows["role"].where(~calibrates, CALIBRATION)
    named = rows[["adapter_id", "artist", "genre"]].assign(kind=kind.astype(str))
    named.loc[rows["artist"] == UNLABELLED, ["artist", "genre"]] = NO_LABEL
    return named
