"""What a run measured, as rows of result tables, and the headings they stand under."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lorastyle.embedding.style_space import Task
from lorastyle.evaluation.paper_rows import COUNT, UNCALIBRATED, feature_name
from lorastyle.evaluation.result_table import Cell, Row
from lorastyle.evaluation.tables import best_calibrated

Metrics = Mapping[str, Any]
Entry = Mapping[str, Any]
Cells = Callable[[Entry], Mapping[str, Cell]]
"""What of an entry a table shows."""

SPLITS = {"train": "training", "val": "validation", "test": "test"}
AGREEMENT = {"ari": "ARI (%)", "nmi": "NMI (%)"}
PRECISION = {"map": "mAP (%)", "map_at_k": "mAP@{k} (%)", "recall_at_k": "Recall@{k} (%)"}

PAPER_SETTING = "factors/full"
"""What the paper calls ours: factors of the full network."""


def feature_rows(entries: Mapping[str, Entry], cells: Cells) -> Iterator[Row]:
    """A row for each image feature, from its entry for a task."""
    for name, entry in entries.items():
        yield Row(feature_name(name), cells(entry))


def weight_rows(metrics: Metrics, task: Task, cells: Cells) -> Iterator[Row]:
    """Every setting; the best and the paper's followed by themselves without calibration."""
    shown = {best_calibrated(metrics["clustering"]), PAPER_SETTING}
    for key, entry in metrics[task].items():
        yield Row(key, {COUNT: Cell(entry[COUNT]), **cells(entry)})
        if key in shown and "uncalibrated" in entry:
            yield Row(f"{key}{UNCALIBRATED}", cells(entry["uncalibrated"]))


def cell_of(entry: Entry, key: str) -> Cell | None:
    """What an entry has under `SCORE/SPLIT`, with its deviation and interval if it has one."""
    score, _, split = key.partition("/")
    scores = entry.get(split, {})
    if (found := scores.get(score)) is None:
        return None
    low, high = scores.get("ci", {}).get(score, (None, None))
    if isinstance(found, Mapping):
        return Cell(found["mean"], found["std"], low, high)
    return Cell(found, low=low, high=high)
