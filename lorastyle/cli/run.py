"""`lorastyle run`: all stages of an experiment."""

from __future__ import annotations

from pathlib import Path

import click

from lorastyle.cli.answer import Answer, respond
from lorastyle.cli.opening import open_run
from lorastyle.cli.stages import (
    carry_out_stages,
    dry_run_answer,
    dry_run_options,
    experiment_options,
    say_outcome,
    train_missing_option,
)


@click.command(name="run")
@experiment_options
@train_missing_option
@dry_run_options
def command(
    target: Path | str,
    overrides: tuple[str, ...],
    directory: Path | str | None,
    force: bool,
    train_missing: bool,
    dry_run: bool,
    samples_per_s: float | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Carry out all stages of an experiment, or those that are not done.

    CONFIG is a YAML file; settings of it can be changed, as in rank=8 or
    training.n_steps=100. An interrupted run goes on with the same command.
    """

    def body() -> Answer:
        if dry_run:
            return dry_run_answer(target, directory, overrides, samples_per_s)
        from lorastyle.cli.results import whole_run_answer

        run = open_run(target, directory, overrides, force=force)
        outcomes = carry_out_stages(
            run, run.stages, force=force, train_missing=train_missing, shown=say_outcome
        )
        return whole_run_answer(run, outcomes, f"lorastyle run {run.location} --force")

    respond(body, as_json=as_json, debug=debug)
