"""Runs below a run that differ from it in one setting, `RUN/ablations/FACTOR/VALUE`.

They have the plan, images, seeds and training of the run but for that setting; their stages are
those of any run. Other ranks are in `RUN/ranks/`, where the sweep has them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorastyle.ablation.levels import Ablation, Level
from lorastyle.ablation.measuring import Measured, measure
from lorastyle.ablation.request import Request, cut_ranks, measured_counts
from lorastyle.config import Experiment, parse_experiment
from lorastyle.errors import ConfigError, StageError
from lorastyle.evaluation.chosen import embedded_grams, fitted, grams_of
from lorastyle.evaluation.swept import (
    TRAINED,
    TRUNCATED,
    SweptSetting,
    finished_sweep,
    own_setting,
)
from lorastyle.runs import Run
from lorastyle.runs.location import beside

SETTINGS: Mapping[str, tuple[str, str]] = {
    "rank": ("training", "rank"),
    "initialisation": ("training", "initialisation"),
    "images": ("protocol", "images_per_adapter"),
}
"""By factor, the setting that is varied."""
NOTE_RANK = "Truncated: the run's own updates cut to that rank by SVD, nothing trained."
NOTE_IMAGES = "Queries, and the images that are held out, are the same for all values."


def own_value(experiment: Experiment, factor: str) -> str:
    """What the run itself has."""
    section, name = SETTINGS[factor]
    return str(getattr(getattr(experiment, section), name))


def wanted_values(run: Run, request: Request) -> tuple[str, ...]:
    """The values named, or a few at and below the run's own; ascending where they are numbers.

    Of ranks those of the sweep come first: they may be trained already.
    """
    if request.values is not None:
        values = set(request.values)
    elif request.factor.words:
        values = set(request.factor.words)
    else:
        own = int(own_value(run.experiment, request.factor.name))
        values = {str(max(1, own // part)) for part in (1, 2, 4)}
        if request.factor.name == "rank":
            values = {str(rank) for rank in _swept_ranks(run)} or values
    words = request.factor.words
    return tuple(sorted(values, key=words.index if words else int))


def _swept_ranks(run: Run) -> set[int]:
    """The run's own rank and the others that the sweep trained; empty where there are none."""
    ranks = {int(rank) for rank in run.experiment.sweep.ranks or ()}
    swept = finished_sweep(run)
    if swept is not None:
        results = swept.results
        ranks |= {int(rank) for rank in results.loc[results["rank_method"] == TRAINED, "rank"]}
    own = run.experiment.training.rank
    return ranks | {own} if ranks - {own} else set()


def sister_experiment(experiment: Experiment, factor: str, value: str) -> Experiment:
    """The same experiment, under a name of its own, with one setting changed.

    Not of ranks, with which alpha goes: `rank_runs.experiment_at_rank`. Raises ConfigError where
    the value does not go with the other settings.
    """
    section, name = SETTINGS[factor]
    values: dict[str, Any] = experiment.model_dump(mode="json")
    values["name"] = f"{experiment.name}-{factor}-{value}"
    values[section][name] = int(value) if value.isdecimal() else value
    return parse_experiment(values, f"{factor} {value}")


def sister_location(run: Run, factor: str, value: str) -> Path | str:
    """Where the run of a value lies; the run itself where it has that value."""
    if value == own_value(run.experiment, factor):
        return run.location
    if factor == "rank":
        return run.rank_location(int(value))
    return beside(run.location, f"ablations/{factor}/{value}")


def refuse_other_images(run: Run, sister: Run) -> None:
    """Raise StageError where the sister was planned with other images, or splits them otherwise."""
    ours, theirs = ((one.manifest("plan") or {}).get("outputs", {}) for one in (run, sister))
    if ours.get("catalogue") is None or ours["catalogue"] != theirs.get("catalogue"):
        raise StageError(
            f"the images of {run.location} are not those it was planned with, so adapters of "
            f"{sister.location} would not be of the same; bring the images back, or plan anew "
            "with --force"
        )


def ablate_sisters(run: Run, request: Request, values: Sequence[str]) -> Ablation:
    """Measure the adapters of every value; all of them are trained and embedded.

    Raises StageError where they are not.
    """
    name = request.factor.name
    measured = _rank_levels if name == "rank" else _sister_levels
    levels = list(measured(run, request, values))
    notes = [NOTE_IMAGES] if name == "images" else []
    if any(level.how == TRUNCATED for level in levels):
        notes.append(NOTE_RANK)
    counts = measured_counts(embedded_grams(run).table)
    return Ablation(request.factor, levels, counts, tuple(notes))


def _sister_levels(run: Run, request: Request, values: Sequence[str]) -> Iterator[Level]:
    own = embedded_grams(run)
    for representation in request.compared_as(run.experiment, own):
        setting = own_setting(run.experiment, representation, request.sub_network)
        for value in values:
            sister = Run.open(sister_location(run, request.factor.name, value))
            found = _measured(run, setting, embedded_grams(sister))
            yield _level(value, setting, found)


def _rank_levels(run: Run, request: Request, values: Sequence[str]) -> Iterator[Level]:
    """A level for each rank that was trained, and those that the updates were cut to."""
    own = embedded_grams(run)
    own_rank = run.experiment.training.rank
    for representation in request.compared_as(run.experiment, own):
        for value in values:
            rank = int(value)
            names = representation, request.sub_network
            setting = SweptSetting(*names, rank, TRAINED, rank == own_rank)
            found = _measured(run, setting, grams_of(run, setting))
            yield replace(_level(value, setting, found), how=TRAINED)
        for rank in cut_ranks(own, representation):
            if request.values is None or str(rank) in request.values:
                setting = SweptSetting(representation, request.sub_network, rank, TRUNCATED, False)
                found = _measured(run, setting, own)
                yield replace(_level(str(rank), setting, found), how=TRUNCATED)


def _measured(run: Run, setting: SweptSetting, grams: Any) -> Measured:
    # By the run's own protocol: sisters have the same.
    return measure(fitted(run, setting, grams), run.experiment)


def _level(value: str, setting: SweptSetting, found: Measured) -> Level:
    entries = {task: [entry] for task, entry in found.entries.items()}
    names = setting.representation, setting.sub_network
    return Level(value, *names, entries, found.absent)


def refuse_without_plan(run: Run, request: Request) -> None:
    """Raise ConfigError where a run has no adapters of its own to be trained otherwise."""
    if not run.is_planned:
        raise ConfigError(
            f"{request.factor.name} is of adapters that are trained here, and those of "
            f"{run.location} come from elsewhere; choose a factor that needs no training"
        )
