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
from lorastyle.report.palette import Palette, make_palette
from lorastyle.report.shown import FloatArray, Points
from lorastyle.runs import STAGES, Run


@dataclass(frozen=True)
class SpaceScores:
    """The first components of one style space.

    `adapters` has columns adapter_id, artist, genre, role. `calibrated` and
    `uncalibrated` are (m, k); NaN rows are adapters that the space does not place.
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
        names = [self.adapters[name].to_numpy(dtype=str) for name in ("artist", "genre", "role")]
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
    catalogue: pd.DataFrame
    manifests: Mapping[str, Mapping[str, Any]]

    @cached_property
    def genre_of(self) -> dict[str, str]:
        pairs = self.catalogue[["artist", "genre"]].drop_duplicates("artist")
        return dict(zip(pairs["artist"].astype(str), pairs["genre"].astype(str), strict=True))

    @cached_property
    def artists(self) -> list[str]:
        return sorted(self.genre_of)

    @cached_property
    def genres(self) -> list[str]:
        return sorted(set(self.genre_of.values()))

    @cached_property
    def palette(self) -> Palette:
        return make_palette(self.genre_of)

    @cached_property
    def chosen_clustering(self) -> str | None:
        """The style space with the best validation ARI."""
        return best_key(self.metrics.get("clustering", {}), "val", "ari")

    @cached_property
    def chosen_retrieval(self) -> str | None:
        """The style space with the best validation mAP."""
        return best_key(self.metrics.get("retrieval", {}), "val", "map")

    @cached_property
    def shown_space(self) -> str | None:
        """The space the map opens with: the one chosen for clustering, where there are scores."""
        if self.chosen_clustering in self.spaces:
            return self.chosen_clustering
        return next(iter(self.spaces), None)


def best_key(entries: Mapping[str, Mapping[str, Any]], split: str, score: str) -> str | None:
    """The entry with the largest score on a split; the first by name among equals.

    >>> best_key({"b": {"val": {"map": 0.5}}, "a": {"val": {"map": 0.5}}}, "val", "map")
    'a'
    """
    scored = {
        key: value
        for key in sorted(entries)
        if (value := score_of(entries[key], split, score)) is not None
    }
    return max(scored, key=lambda key: scored[key], default=None)


def score_of(entry: Mapping[str, Any] | None, split: str, score: str) -> float | None:
    """A score of an entry of the metrics; a mean over seeds counts as the score."""
    value = ((entry or {}).get(split) or {}).get(score)
    if isinstance(value, Mapping):
        value = value.get("mean")
    return None if value is None else float(value)


def std_of(entry: Mapping[str, Any] | None, split: str, score: str) -> float | None:
    """The standard deviation over seeds, where the score is a mean."""
    value = ((entry or {}).get(split) or {}).get(score)
    std = value.get("std") if isinstance(value, Mapping) else None
    return None if std is None else float(std)


def read_source(run: Run) -> ReportSource:
    """Read a run's results. Raises StageError where it is not evaluated."""
    run.upstream_hash("evaluate")
    try:
        metrics = json.loads(run.metrics_path.read_text(encoding="utf-8"))
        scores = pd.read_parquet(run.evaluation_path / "scores.parquet")
        catalogue = pd.read_parquet(run.catalogue_path)
    except FileNotFoundError as error:
        raise StageError(
            f"{error.filename} is missing; run `lorastyle evaluate {run.directory} --force`"
        ) from error
    return ReportSource(
        run=run,
        metrics=metrics,
        spaces=_spaces(scores),
        curves=_optional(run, "curves.parquet"),
        queries=_optional(run, "queries.parquet"),
        catalogue=catalogue,
        manifests={stage: recorded for stage in STAGES if (recorded := run.manifest(stage))},
    )


def _optional(run: Run, name: str) -> pd.DataFrame:
    path = run.evaluation_path / name
    return pd.read_parquet(path) if path.exists() else pd.DataFrame()


def _spaces(scores: pd.DataFrame) -> dict[str, SpaceScores]:
    """One `SpaceScores` for each representation and sub-network in the table."""
    columns = [name for name in scores.columns if str(name).startswith("component_")]
    spaces: dict[str, SpaceScores] = {}
    for (representation, sub_network), rows in scores.groupby(
        ["representation", "sub_network"], sort=False
    ):
        final = rows[rows["calibrated"]].set_index("adapter_id")
        before = rows[~rows["calibrated"]].set_index("adapter_id")
        columns_here = [name for name in columns if final[name].notna().any()]
        spaces[f"{representation}/{sub_network}"] = SpaceScores(
            adapters=final.reset_index()[["adapter_id", "artist", "genre", "role"]],
            calibrated=final[columns_here].to_numpy(dtype=np.float64),
            uncalibrated=before.reindex(final.index)[columns_here].to_numpy(dtype=np.float64)
            if len(before)
            else None,
        )
    return spaces
