"""The summary of a run as rows of text: percentages, with the spread over seeds beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, Any]
Rows = list[list[str]]
EMPTY = "-"


@dataclass(frozen=True)
class Column:
    """Where a number stands among a method's entries."""

    heading: str
    task: str
    split: str
    score: str


@dataclass(frozen=True)
class Method:
    """A row: its name, and its entry for each task."""

    name: str
    entries: Mapping[str, Mapping[str, Any]]


SUMMARY = (
    *(Column(f"ARI {split}", "clustering", split, "ari") for split in ("train", "val", "test")),
    Column("mAP test", "retrieval", "test", "map"),
    Column("Recall@{k} test", "retrieval", "test", "recall_at_k"),
)
"""What is shown of a run."""


def metrics_table(metrics: Metrics) -> Rows:
    """A heading and a row for each method: image features, then adapter weights.

    The setting with the best validation ARI is followed by itself without
    calibration. What could not be computed is a dash.
    """
    tasks = list(dict.fromkeys(column.task for column in SUMMARY))
    k = metrics.get("protocol", {}).get("k", "k")
    headings = ["Method", *(f"PCs {task}" for task in tasks)]
    headings += [column.heading.replace("{k}", str(k)) for column in SUMMARY]
    rows = [headings]
    for method in _methods(metrics):
        counts = [str(method.entries.get(task, {}).get("n_components", "")) for task in tasks]
        rows.append([method.name, *counts, *(_cell(method, column) for column in SUMMARY)])
    return rows


def markdown(rows: Rows) -> str:
    r"""Rows as a Markdown table, the first being the heading; numbers are flush right.

    >>> print(markdown([["Method", "ARI"], ["a|b", "9.0"]]))
    | Method | ARI |
    | ------ | --: |
    | a\|b   | 9.0 |
    """
    safe = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(3, *(len(row[column]) for row in safe)) for column in range(len(safe[0]))]
    lines = [_line(row, widths) for row in safe]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([lines[0], _line(rule, widths), *lines[1:]])


def percentage(value: float, std: float | None = None) -> str:
    """A fraction as the paper prints it.

    >>> percentage(0.956, 0.025)
    '95.6 ± 2.5'
    """
    return f"{100 * value:z.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _methods(metrics: Metrics) -> Iterator[Method]:
    for name, feature in metrics.get("features", {}).items():
        retrieval = feature.get("retrieval", {}).get("orig_orig", {})
        yield Method(name, {"clustering": feature.get("clustering", {}), "retrieval": retrieval})
    tasks = {task: metrics.get(task, {}) for task in ("clustering", "retrieval")}
    best = best_calibrated(tasks["clustering"])
    for key in dict.fromkeys(key for entries in tasks.values() for key in entries):
        entries = {task: tasks[task].get(key, {}) for task in tasks}
        yield Method(key, entries)
        if key == best:
            without = {task: entry.get("uncalibrated", {}) for task, entry in entries.items()}
            yield Method(f"{key}, uncalibrated", without)


def best_calibrated(entries: Mapping[str, Any]) -> str | None:
    """The setting with the best validation ARI among those that were calibrated."""
    scored = {
        key: entry["val"]["ari"]["mean"]
        for key, entry in entries.items()
        if "val" in entry and entry.get("uncalibrated")
    }
    return max(scored, key=lambda key: scored[key], default=None)


def _cell(method: Method, column: Column) -> str:
    value = method.entries.get(column.task, {}).get(column.split, {}).get(column.score)
    if value is None:
        return EMPTY
    if isinstance(value, Mapping):
        return percentage(value["mean"], value["std"])
    return percentage(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "| " + " | ".join([first, *rest]) + " |"
