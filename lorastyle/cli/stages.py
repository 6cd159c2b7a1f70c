"""Carrying out stages from the command line, a line each as they finish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import Answer, Command, answer_options, respond, say
from lorastyle.cli.opening import CONFIG_OR_RUN, NEW_RUN, open_run, read_target
from lorastyle.report.words import duration

if TYPE_CHECKING:
    from lorastyle.runs import Run, StageOutcome


def experiment_options(command: Command) -> Command:
    """`TARGET [key=value ...] [--run RUN] [--force]`."""
    for decorate in (
        click.argument("overrides", nargs=-1, metavar="[key=value ...]"),
        click.argument("target", type=CONFIG_OR_RUN, metavar="CONFIG|RUN"),
        click.option(
            "--run",
            "directory",
            type=NEW_RUN,
            help="Where the run lies: a directory, or s3://BUCKET/PREFIX (also gs://). "
            "Default: runs/NAME, by the name in CONFIG.",
        ),
        click.option(
            "--force",
            is_flag=True,
            help="Make again what is done or was made from other settings.",
        ),
        answer_options,
    ):
        command = decorate(command)
    return command


train_missing_option = click.option(
    "--train-missing",
    is_flag=True,
    help="Train the adapters of ranks in sweep.ranks that are missing.",
)


def dry_run_options(command: Command) -> Command:
    """`[--dry-run [--samples-per-s X]]`."""
    for decorate in (
        click.option(
            "--samples-per-s",
            type=click.FloatRange(min=0, min_open=True),
            help="With --dry-run: predict the time of training at this rate of one GPU, or core.",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Print the resolved experiment and its cost; stop."
        ),
    ):
        command = decorate(command)
    return command


def dry_run_answer(
    target: Path | str,
    directory: Path | str | None,
    overrides: Sequence[str],
    samples_per_s: float | None,
) -> Answer:
    """What the run that is meant would train and take; nothing is done."""
    from lorastyle.cli.dry_run import preview

    experiment, place = read_target(target, directory, overrides)
    return preview(experiment, place, samples_per_s)


def stage_verb(stage: str, explanation: str) -> click.Command:
    """The command of one stage."""

    @click.command(name=stage, help=explanation)
    @experiment_options
    def command(
        target: Path | str,
        overrides: tuple[str, ...],
        directory: Path | str | None,
        force: bool,
        as_json: bool,
        debug: bool,
    ) -> None:
        respond(
            lambda: stage_answer(stage, target, directory, overrides, force=force),
            as_json=as_json,
            debug=debug,
        )

    return command


def stage_answer(
    stage: str,
    target: Path | str,
    directory: Path | str | None,
    overrides: Sequence[str],
    *,
    force: bool,
) -> Answer:
    """Carry out one stage of the run that is meant, and say what it made."""
    run = open_run(target, directory, overrides, force=force)
    (outcome,) = carry_out_stages(run, [stage], force=force)
    return Answer({"run": str(run.location), **describe(outcome)}, line(outcome))


def carry_out_stages(
    run: Run,
    stages: Sequence[str],
    *,
    force: bool = False,
    train_missing: bool = False,
    shown: Callable[[StageOutcome], None] | None = None,
) -> list[StageOutcome]:
    """Carry out stages of a run; `shown` is told of each when it is done."""
    from lorastyle.distributed.pipeline import run_stages

    return run_stages(run, stages, force=force, train_missing=train_missing, on_outcome=shown)


def say_outcome(outcome: StageOutcome) -> None:
    """One line on stderr."""
    say(line(outcome))


def line(outcome: StageOutcome) -> str:
    """A stage, what it made and how long that took."""
    mark = "·" if outcome.skipped else click.style("✓", fg="green")
    time = "done already" if outcome.skipped else duration(outcome.wall_s)
    return f"{mark} {outcome.stage:<9} {summary(outcome.stage, outcome.outputs):<52} {time:>13}"


def describe(outcome: StageOutcome) -> dict[str, Any]:
    """A stage's outcome as plain values."""
    return {
        "stage": outcome.stage,
        "skipped": outcome.skipped,
        "wall_s": round(outcome.wall_s, 3),
        "outputs": dict(outcome.outputs),
    }


def summary(stage: str, outputs: Mapping[str, Any]) -> str:
    """A few words on what a stage recorded; empty where it recorded none of them.

    >>> summary("plan", {"n_artists": 12, "n_images": 720, "n_adapters": 216})
    '12 artists, 720 images, 216 adapters'
    """
    if stage == "report":
        return str(outputs.get("page", ""))
    counted = ((noun, outputs.get(key)) for key, noun in _COUNTS.items())
    parts = [f"{count:,} {noun}" for noun, count in counted if isinstance(count, int)]
    if isinstance(outputs.get("d"), int):
        parts.append(f"d = {outputs['d']:,}")
    bad = {name: n for name, n in outputs.get("by_status", {}).items() if name != "ok"}
    parts += [f"{n} {name.replace('_', '-')}" for name, n in bad.items()]
    return ", ".join(parts)


_COUNTS = {
    "n_artists": "artists",
    "n_images": "images",
    "n_adapters": "adapters",
    "n_spaces": "style spaces",
    "n_settings": "settings",
    "n_points": "points",
    "n_features": "image features",
}
