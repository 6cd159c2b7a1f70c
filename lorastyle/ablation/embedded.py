"""Factors of what is embedded: PC count, sub-networks, calibration, size of the database.

Nothing is trained and no adapter is read: everything is a part of the run's Gram matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast, get_args

from lorastyle.ablation.galleries import gallery_sizes, gallery_table, largest_gallery
from lorastyle.ablation.levels import Ablation, Entry, Level
from lorastyle.ablation.measuring import Measured, RememberingGrams, choose, measure, score
from lorastyle.ablation.request import Request, measured_counts, refuse_beyond
from lorastyle.adapters.module_sets import expand
from lorastyle.config import CalibrationForm, Experiment
from lorastyle.embedding.style_space import Task
from lorastyle.errors import StageError, TooFewAdaptersError
from lorastyle.evaluation.chosen import embedded_grams
from lorastyle.evaluation.protocol import ProtocolSettings, Setting, fit_setting
from lorastyle.evaluation.swept import FinishedSweep, finished_sweep
from lorastyle.progress import progress
from lorastyle.runs import Run

COUNT_LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
TASKS: tuple[Task, ...] = get_args(Task)
FORMS: tuple[CalibrationForm, ...] = get_args(CalibrationForm)
NOTE_COUNTS = (
    "Marked: the count that validation chose. Nothing is chosen by the test scores of the others."
)
NOTE_GALLERY = (
    "Adapters an artist: those that PCA and k-means are fitted on, in retrieval also the gallery; "
    "what calibrates and what is held out is the same for all sizes. Recall looks at as many as an "
    "artist has, unless evaluation.top_k says otherwise. A smaller gallery is easier: read mAP "
    "against what chance gives. Drift is of the first two components; it "
    "has no unit where an artist has one adapter."
)


@dataclass(frozen=True)
class Embedded:
    """What these factors are measured on."""

    grams: RememberingGrams
    experiment: Experiment
    swept: FinishedSweep | None = None

    @classmethod
    def of(cls, run: Run) -> Embedded:
        """The Gram matrices of a run. Raises StageError before embedding."""
        grams = RememberingGrams.of(embedded_grams(run))
        return cls(grams, run.experiment, finished_sweep(run))

    @property
    def protocol(self) -> ProtocolSettings:
        return ProtocolSettings.of(self.experiment)

    def fitted(self, representation: str, sub_network: str) -> Setting:
        """The style spaces of all adapters."""
        return fit_setting(self.grams, None, representation, sub_network, self.experiment)


def ablate_embedded(here: Embedded, request: Request) -> Ablation:
    """Measure every value of a factor that needs no training.

    Raises ConfigError for values that the adapters do not have, StageError for sub-networks that
    were not embedded.
    """
    names = request.compared_as(here.experiment, here.grams)
    levels: list[Level] = []
    left_out: dict[str, str] = {}
    measured, note = MEASURED[request.factor.name]
    with progress(request.factor.name, len(names), "representations") as shown:
        for representation in names:
            for level in measured(here, request, representation, left_out):
                levels.append(level)
                shown.note(f"{representation} {level.value}")
            shown.advance()
    if not levels:
        raise StageError(
            f"none of the {len(left_out)} values of {request.factor.name} can be measured, the "
            f"first because {next(iter(left_out.values()), 'there is none')}"
        )
    counts = measured_counts(here.grams.table)
    return Ablation(request.factor, levels, counts, (note,) if note else (), left_out)


def _components(
    here: Embedded, request: Request, representation: str, left_out: dict[str, str]
) -> Iterator[Level]:
    setting = here.fitted(representation, request.sub_network)
    choices = choose(setting, here.experiment, protocol=here.protocol, swept=here.swept)
    setting = setting.calibrated_as({task: one.calibration for task, one in choices.items()})
    chosen = {task: choice.n_components for task, choice in choices.items()}
    most = max((space.n_components for space in setting.spaces.values()), default=0)
    wanted = request.numbers()
    refuse_beyond(wanted, most, "components", "the largest style space has")
    for count in wanted or sorted({*(n for n in COUNT_LADDER if n < most), most, *chosen.values()}):
        few = {
            task: f"there are {space.n_components} components"
            for task, space in setting.spaces.items()
            if space.n_components < count
        }
        spaces = {task: space for task, space in setting.spaces.items() if task not in few}
        found = score(replace(setting, spaces=spaces), dict.fromkeys(spaces, count), here.protocol)
        marked = tuple(task for task in spaces if chosen.get(task) == count)
        level = _level(str(count), representation, request.sub_network, found)
        yield replace(level, absent={**level.absent, **few}, chosen_for=marked)


def _sub_networks(
    here: Embedded, request: Request, representation: str, left_out: dict[str, str]
) -> Iterator[Level]:
    own = here.experiment.sweep.sub_networks or here.experiment.embedding.sub_networks
    for expression in expand(request.values or own, here.grams.targets):
        there = here.grams.has(representation, expression)
        if request.values is None and not there:
            left_out[expression] = "it is not embedded, or names no module of the adapters"
            continue
        setting = here.fitted(representation, expression)
        yield _level(
            expression,
            representation,
            expression,
            measure(setting, here.experiment, swept=here.swept),
        )


def _calibration(
    here: Embedded, request: Request, representation: str, left_out: dict[str, str]
) -> Iterator[Level]:
    setting = here.fitted(representation, request.sub_network)
    for form in cast("tuple[CalibrationForm, ...]", request.values or FORMS):
        try:
            calibrated = setting.calibrated_as(dict.fromkeys(setting.spaces, form))
        except TooFewAdaptersError as error:
            left_out[form] = str(error)
            continue
        found = measure(calibrated, here.experiment, forms=[form])
        yield _level(form, representation, request.sub_network, found)


def _gallery(
    here: Embedded, request: Request, representation: str, left_out: dict[str, str]
) -> Iterator[Level]:
    table, n_calibration = here.grams.table, here.experiment.protocol.calibration
    largest = {task: largest_gallery(table, task, n_calibration) for task in TASKS}
    sizes = request.numbers()
    most = max(largest.values())
    refuse_beyond(sizes, most, "adapters an artist", "the most to fit on is")
    for m in sizes or gallery_sizes(largest):
        entries: dict[Task, list[Entry]] = {}
        absent: dict[Task, str] = {}
        for task in TASKS:
            if m > largest[task]:
                absent[task] = f"an artist has at most {largest[task]} to fit on"
                continue
            n_draws = 1 if m == largest[task] else request.n_draws
            for draw in range(n_draws):
                found = _smaller(here, request, representation, task, m, draw, largest[task])
                absent |= found.absent
                if task in found.entries:
                    entries.setdefault(task, []).append(found.entries[task])
        yield Level(str(m), representation, request.sub_network, entries, absent)


def _smaller(
    here: Embedded,
    request: Request,
    representation: str,
    task: Task,
    m: int,
    draw: int,
    largest: int,
) -> Measured:
    """One task on one drawn database."""
    experiment, protocol = here.experiment, here.protocol
    rows = gallery_table(here.grams.table, task, experiment.protocol.calibration, m, draw)
    if m < largest and experiment.evaluation.top_k is None:
        # As everywhere, k is by default the number of gallery adapters of an artist.
        protocol = replace(protocol, top_k=m)
    names = representation, request.sub_network
    setting = fit_setting(here.grams, rows, *names, experiment, [task])
    return measure(setting, experiment, protocol=protocol)


def _level(value: str, representation: str, sub_network: str, found: Measured) -> Level:
    entries = {task: [entry] for task, entry in found.entries.items()}
    return Level(value, representation, sub_network, entries, found.absent)


Measuring = Callable[[Embedded, Request, str, dict[str, str]], Iterator[Level]]
MEASURED: Mapping[str, tuple[Measuring, str]] = {
    "components": (_components, NOTE_COUNTS),
    "sub-networks": (_sub_networks, ""),
    "calibration": (_calibration, ""),
    "gallery-size": (_gallery, NOTE_GALLERY),
}
"""By factor, what measures it, and what must be said of it."""
