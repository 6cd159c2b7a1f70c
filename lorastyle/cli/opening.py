"""From what the user typed to a `Run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lorastyle.config import Experiment
    from lorastyle.runs import Run

DEFAULT_PARENT = Path("runs")


def open_run(
    target: Path, directory: Path | None, overrides: Sequence[str], *, force: bool = False
) -> Run:
    """The run meant by `TARGET [--run RUN] [key=value ...]`.

    `target` is a run's directory or an experiment's YAML; the YAML's run lies in
    `directory`, by default `runs/NAME`. Raises ConfigError or StageError.
    """
    from lorastyle.runs import Run

    if target.is_dir() and not overrides:
        _refuse_both(directory)
        return Run.open(target)
    experiment, place = read_target(target, directory, overrides)
    return Run.create(place, experiment, force=force)


def read_target(
    target: Path, directory: Path | None, overrides: Sequence[str]
) -> tuple[Experiment, Path]:
    """The experiment and where its run lies; nothing is written."""
    from lorastyle.config import load_experiment
    from lorastyle.runs import Run

    if target.is_dir():
        _refuse_both(directory)
        run = Run.open(target)
        return load_experiment(run.config_path, overrides), target
    experiment = load_experiment(target, overrides)
    return experiment, directory or DEFAULT_PARENT / experiment.name


def _refuse_both(directory: Path | None) -> None:
    if directory is not None:
        raise click.UsageError(
            "--run goes with a CONFIG; a RUN directory says already where it lies"
        )
