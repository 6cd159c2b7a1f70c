"""The results of a run, as a table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lorastyle.cli.answer import Answer
from lorastyle.cli.stages import describe
from lorastyle.report.scores import chosen_space, feature_entries, score_of, std_of
from lorastyle.report.words import percent, plain, space_name

if TYPE_CHECKING:
    from lorastyle.runs import Run, StageOutcome


def whole_run_answer(run: Run, outcomes: Sequence[StageOutcome], again: str) -> Answer:
    """What `run` and `demo` answer; `again` is the command that remakes it."""
    metrics = json.loads(run.metrics_path.read_text(encoding="utf-8"))
    page = run.report_path / "index.html"
    document = {
        "run": str(run.directory),
        "stages": [describe(outcome) for outcome in outcomes],
        "metrics": metrics,
        "report": str(page),
    }
    done = all(outcome.skipped for outcome in outcomes)
    parts = [results_text(metrics), f"Report: {page}"]
    if done:
        parts.append(f"Everything was done already; `{again}` makes it again.")
    return Answer(document, "\n\n".join(parts))


def results_text(metrics: Mapping[str, Any]) -> str:
    """One table: clustering and retrieval, by image features and by adapter weights."""
    k = metrics.get("protocol", {}).get("k", "k")
    head = ("", "ARI train", "ARI val", "ARI test", "mAP test", f"Recall@{k}", "PCs")
    rows = [head, *_feature_rows(metrics), *_space_rows(metrics)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(len(one) for one in lines))
    note = "In percent. PCs: for clustering, for retrieval. * best validation ARI."
    return "\n".join([*lines, note])


def _feature_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    clustering, retrieval = (feature_entries(metrics, task) for task in ("clustering", "retrieval"))
    names = list(dict.fromkeys([*clustering, *retrieval]))
    return [
        (f"images: {plain(name)}", *_cells(clustering.get(name), retrieval.get(name)), "")
        for name in names
    ]


def _space_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    clustering, retrieval = metrics.get("clustering", {}), metrics.get("retrieval", {})
    chosen = chosen_space(metrics, "clustering")
    rows: list[tuple[str, ...]] = []
    for key in dict.fromkeys([*clustering, *retrieval]):
        one, other = clustering.get(key) or {}, retrieval.get(key) or {}
        counts = ", ".join(str(entry.get("n_components", "–")) for entry in (one, other))
        star = " *" if key == chosen else ""
        rows.append((f"{space_name(key)}{star}", *_cells(one, other), counts))
        if key == chosen:
            before = _cells(one.get("uncalibrated"), other.get("uncalibrated"))
            rows.append(("  without calibration", *before, ""))
    return rows


def _cells(
    clustering: Mapping[str, Any] | None, retrieval: Mapping[str, Any] | None
) -> tuple[str, ...]:
    wanted = (
        *((clustering, split, "ari") for split in ("train", "val", "test")),
        *((retrieval, "test", score) for score in ("map", "recall_at_k")),
    )
    return tuple(_cell(*one) for one in wanted)


def _cell(entry: Mapping[str, Any] | None, split: str, score: str) -> str:
    value = score_of(entry, split, score)
    return "–" if value is None else percent(value, std_of(entry, split, score))
