"""What the stage `evaluate` collects before it writes anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lorastyle.embedding.style_space import Task
from lorastyle.evaluation.labelled import FloatArray
from lorastyle.runs import write_parquet

PARQUET = ("curves", "scores", "queries", "calibration", "similarity")


@dataclass
class Findings:
    """Entries of the metrics by key, and the lines of the tables."""

    clustering: dict[str, Any] = field(default_factory=dict)
    retrieval: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    """Of the numbers in an adapter of the full network, by key."""
    feature_vectors: dict[str, FloatArray] = field(default_factory=dict)
    """Of each image feature, (n_adapters, dimension), in the order of the embedded adapters."""
    curves: list[pd.DataFrame] = field(default_factory=list)
    scores: list[pd.DataFrame] = field(default_factory=list)
    queries: list[pd.DataFrame] = field(default_factory=list)
    calibration: list[pd.DataFrame] = field(default_factory=list)
    similarity: list[pd.DataFrame] = field(default_factory=list)

    def entries(self, task: Task) -> dict[str, Any]:
        """The entries of a task."""
        return self.clustering if task == "clustering" else self.retrieval

    def best(self, task: Task) -> str | None:
        """The setting with the best validation score of a task; without one, the first scored.

        The score is the ARI, or the mAP.
        """
        scored = {
            key: entry["val"]["ari"]["mean"] if task == "clustering" else entry["val"]["map"]
            for key, entry in self.entries(task).items()
            if "val" in entry
        }
        first = next(iter(self.entries(task)), None)
        return max(scored, key=lambda key: scored[key], default=first)

    def table(self, name: str) -> pd.DataFrame:
        """The lines of a kind in one frame; no columns where there are none."""
        parts = [part for part in getattr(self, name) if len(part)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def write_tables(self, directory: Path) -> None:
        """The lines of each kind as one Parquet file."""
        for name in PARQUET:
            write_parquet(directory / f"{name}.parquet", self.table(name))
