"""What `run` and `demo` answer: the table of results, and where the report lies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorastyle.cli.answer import Answer
from lorastyle.cli.stages import describe
from lorastyle.evaluation.tables import markdown, metrics_table

if TYPE_CHECKING:
    from lorastyle.runs import Run, StageOutcome


def whole_run_answer(run: Run, outcomes: Sequence[StageOutcome], again: str) -> Answer:
    """What `run` and `demo` answer; `again` is the command that remakes it."""
    metrics = json.loads(run.metrics_path.read_text(encoding="utf-8"))
    page = run.report_path / "index.html"
    document = {
        "run": str(run.location),
        "stages": [describe(outcome) for outcome in outcomes],
        "metrics": metrics,
        "report": str(page),
    }
    done = all(outcome.skipped for outcome in outcomes)
    parts = [markdown(metrics_table(metrics)), f"Report: {page}"]
    if done:
        parts.append(f"Everything was done already; `{again}` makes it again.")
    return Answer(document, "\n\n".join(parts))
