"""`lorastyle sweep`: every setting at every PC count, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import Answer, respond
from lorastyle.cli.opening import open_run
from lorastyle.cli.stages import (
    carry_out_stages,
    describe,
    experiment_options,
    line,
    train_missing_option,
)

if TYPE_CHECKING:
    from lorastyle.runs import Run

TABLE = "ablation.md"
LEFT_OUT_SHOWN = 5


@click.command(name="sweep")
@train_missing_option
@experiment_options
def command(
    target: Path | str,
    overrides: tuple[str, ...],
    directory: Path | str | None,
    force: bool,
    train_missing: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Choose PC count, rank, sub-network, representation and calibration on validation.

    Every PC count of every setting is scored; of those within one standard error of the best
    the smallest is taken. The test adapters are looked at once, in the chosen settings. What to
    try: sweep.ranks, sweep.truncated_ranks, sweep.sub_networks, sweep.representations and
    sweep.calibration_forms, as in sweep.sub_networks=[full,by-projection] (docs/sweep.md).
    """

    def body() -> Answer:
        run = open_run(target, directory, overrides, force=force)
        (outcome,) = carry_out_stages(run, ["sweep"], force=force, train_missing=train_missing)
        document: dict[str, Any] = {"run": str(run.location), **describe(outcome)}
        parts = [line(outcome), _table(run), *_left_out(outcome.outputs.get("left_out", {}))]
        return Answer(document, "\n".join(part for part in parts if part))

    respond(body, as_json=as_json, debug=debug)


def _table(run: Run) -> str:
    path = run.sweep_path / TABLE
    table = path.read_text(encoding="utf-8") if path.is_file() else ""
    return f"\n{table.rstrip()}\n\nCurves and all results: {run.sweep_path}" if table else ""


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    lines = [f"  left out {key}: {reason}" for key, reason in reasons.items()]
    more = len(lines) - LEFT_OUT_SHOWN
    return lines[:LEFT_OUT_SHOWN] + ([f"  and {more} more"] if more > 0 else [])
