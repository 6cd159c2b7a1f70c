"""`lorastyle train`: one stage of a run."""

from __future__ import annotations

from pathlib import Path

import click

from lorastyle.cli.answer import Answer, respond
from lorastyle.cli.stages import dry_run_answer, dry_run_options, experiment_options, stage_answer


@click.command(name="train")
@experiment_options
@dry_run_options
def command(
    target: Path | str,
    overrides: tuple[str, ...],
    directory: Path | str | None,
    force: bool,
    dry_run: bool,
    samples_per_s: float | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Train the planned adapters, on a Ray cluster or on this machine.

    Adapters that the run has already are not trained again, so an interrupted
    training goes on where it stopped.
    """

    def body() -> Answer:
        if dry_run:
            return dry_run_answer(target, directory, overrides, samples_per_s)
        return stage_answer("train", target, directory, overrides, force=force)

    respond(body, as_json=as_json, debug=debug)
