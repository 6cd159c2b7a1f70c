"""From what the user typed to a `Run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.errors import LorastyleError

if TYPE_CHECKING:
    from lorastyle.config import Experiment
    from lorastyle.runs import Run

DEFAULT_PARENT = Path("runs")


class Location(click.ParamType):  # type: ignore[type-arg]
    """A path, or the URL of a run in a bucket as text: as a Path it would lose a slash."""

    name = "path"

    def __init__(self, *, exists: bool = False, file_okay: bool = False) -> None:
        self._path = click.Path(exists=exists, file_okay=file_okay, path_type=Path)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        from lorastyle.runs import location

        try:
            found = location(value)
        except LorastyleError as error:
            self.fail(str(error), param, ctx)
        if isinstance(found, str):
            return found
        path: Path = self._path.convert(found, param, ctx)
        return path


RUN = Location(exists=True)
NEW_RUN = Location()
CONFIG_OR_RUN = Location(exists=True, file_okay=True)
FILE_OR_RUN = Location(file_okay=True)


def open_run(
    target: Path | str,
    directory: Path | str | None,
    overrides: Sequence[str],
    *,
    force: bool = False,
) -> Run:
    """The run meant by `TARGET [--run RUN] [key=value ...]`.

    `target` is where a run lies or an experiment's YAML; the YAML's run lies in
    `directory`, by default `runs/NAME`. Raises ConfigError or StageError.
    """
    from lorastyle.runs import Run

    if may_be_run(target) and not overrides:
        _refuse_both(directory)
        return Run.open(target)
    experiment, place = read_target(target, directory, overrides)
    return Run.create(place, experiment, force=force)


def read_target(
    target: Path | str, directory: Path | str | None, overrides: Sequence[str]
) -> tuple[Experiment, Path | str]:
    """The experiment and where its run lies; nothing is written."""
    from lorastyle.config import load_experiment
    from lorastyle.runs import Run

    if may_be_run(target):
        _refuse_both(directory)
        run = Run.open(target)
        return load_experiment(run.config_path, overrides), target
    experiment = load_experiment(Path(target), overrides)
    return experiment, directory or DEFAULT_PARENT / experiment.name


def may_be_run(target: Path | str) -> bool:
    """Whether it can only be a run: a directory or a URL."""
    return isinstance(target, str) or target.is_dir()


def _refuse_both(directory: Path | str | None) -> None:
    if directory is not None:
        raise click.UsageError("--run goes with a CONFIG; a RUN says already where it lies")
