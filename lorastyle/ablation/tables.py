"""An ablation as a table: Markdown for a file and a terminal, CSV in full precision."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from io import StringIO
from typing import NamedTuple, get_args

from lorastyle.ablation.factors import Factor
from lorastyle.ablation.levels import SCORES, Ablation, Level, Number, drift_prefix
from lorastyle.embedding.style_space import Task
from lorastyle.evaluation.intervals import LEVEL
from lorastyle.evaluation.swept import TRUNCATED
from lorastyle.evaluation.tables import EMPTY, Rows, markdown
from lorastyle.report.words import KIND_NAMES, SUB_NETWORK_NAMES, percent, representation_name

TASKS: tuple[Task, ...] = get_args(Task)
HEADINGS: Mapping[Task, tuple[tuple[str, str], ...]] = {
    "clustering": (
        *((f"ari/{split}", f"ARI {split}") for split in ("train", "val", "test")),
        ("nmi/test", "NMI test"),
    ),
    "retrieval": (
        *((f"map/{split}", f"mAP {split}") for split in ("val", "test")),
        ("recall_at_k/test", "Recall@k test"),
    ),
}
"""Of each task, the scores that are shown."""
CHOSEN = {"components": "Calibration is", "calibration": "PCs are"}
"""What is chosen, where that is not both."""
CHANCE = ("floor/map/test", "mAP by chance")
"""Shown where galleries differ: a smaller one is easier."""
Numbers = Mapping[str, Number]


class Shown(NamedTuple):
    """A column of the table: its heading, and a level's cell."""

    heading: str
    cell: Callable[[Level, Numbers], str]


def to_markdown(ablation: Ablation) -> str:
    """A table for each task, how they are to be read, and what is not in them."""
    lines = [(level, level.numbers()) for level in ablation.levels]
    parts = []
    for task in TASKS:
        columns = _columns(ablation, task)
        there = [(level, numbers) for level, numbers in lines if level.n_draws(task)]
        rows: Rows = [[column.heading for column in columns]]
        rows += [[column.cell(level, numbers) for column in columns] for level, numbers in there]
        if there:
            parts += [f"## {task.capitalize()}", markdown(_without_constants(rows))]
    return "\n\n".join([*parts, _legend(ablation), *ablation.notes, *_absences(ablation)]) + "\n"


def to_csv(ablation: Ablation) -> str:
    """A line for each value and representation; fractions of one, drift in units of the spread.

    For each score KEY that there is: KEY, KEY_low, KEY_high and KEY_draws_std where known.
    """
    lines = [(level, level.numbers()) for level in ablation.levels]
    keys = [
        (score.key, part)
        for score in SCORES
        for part in Number._fields
        if any(getattr(numbers.get(score.key), part, None) is not None for _, numbers in lines)
    ]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [key if part == "value" else f"{key}_{part}" for key, part in keys]
    writer.writerow([ablation.factor.name, *ABOUT, *names])
    for level, numbers in lines:
        about = [of(level) for of in ABOUT.values()]
        values = [getattr(numbers.get(key), part, None) for key, part in keys]
        writer.writerow([level.value, *about, *("" if one is None else one for one in values)])
    return text.getvalue()


ABOUT: Mapping[str, Callable[[Level], object]] = {
    "representation": lambda level: level.representation,
    "sub_network": lambda level: level.sub_network,
    "how": lambda level: level.how,
    "chosen_for": lambda level: " ".join(level.chosen_for),
    "draws_clustering": lambda level: level.n_draws("clustering"),
    "draws_retrieval": lambda level: level.n_draws("retrieval"),
    "calibration_clustering": lambda level: " ".join(level.calibrations("clustering")),
    "calibration_retrieval": lambda level: " ".join(level.calibrations("retrieval")),
}
"""What a line of the CSV says besides its scores."""


def _columns(ablation: Ablation, task: Task) -> list[Shown]:
    factor = ablation.factor
    drift = drift_prefix(factor)
    return [
        Shown(factor.heading, lambda level, _: _value(factor, level, task)),
        Shown("Representation", lambda level, _: representation_name(level.representation)),
        Shown("Draws", lambda level, _: str(level.n_draws(task))),
        *([] if factor.name == "components" else [_count(task)]),
        *([] if factor.name == "calibration" else [_form(task)]),
        *(_score(key, heading) for key, heading in HEADINGS[task]),
        *([_score(*CHANCE)] if factor.name == "gallery-size" and task == "retrieval" else []),
        _drift(f"{drift}/{task}/test", "drift" if drift == "drift" else "drift, 2 PCs"),
    ]


def _value(factor: Factor, level: Level, task: Task) -> str:
    if factor.kind == "expression":
        return SUB_NETWORK_NAMES.get(level.value, f"`{level.value}`")
    if level.how == TRUNCATED:
        return f"{level.value}, truncated"
    return f"{level.value} (chosen)" if task in level.chosen_for else level.value


def _count(task: Task) -> Shown:
    def cell(level: Level, numbers: Numbers) -> str:
        found = numbers.get(f"pcs/{task}")
        return EMPTY if found is None else f"{found.value:.3g}"

    return Shown("PCs", cell)


def _form(task: Task) -> Shown:
    return Shown("Calibration", lambda level, _: " ".join(level.calibrations(task)))


def _score(key: str, heading: str) -> Shown:
    """In percent; ± the deviation over draws, and the interval of a test score."""

    def cell(level: Level, numbers: Numbers) -> str:
        found = numbers.get(key)
        if found is None:
            return EMPTY
        if key.startswith("floor/"):
            return percent(found.value)
        text = percent(found.value, found.draws_std)
        if found.low is None or found.high is None or not key.endswith("/test"):
            return text
        return f"{text} [{percent(found.low)}, {percent(found.high)}]"

    return Shown(heading, cell)


def _drift(key: str, heading: str) -> Shown:
    def cell(level: Level, numbers: Numbers) -> str:
        parts = [numbers.get(f"{key}/{name}") for name in ("before", "after", "expected")]
        before, after, expected = (None if one is None else f"{one.value:.2f}" for one in parts)
        return EMPTY if before is None else f"{before} → {after} ({expected})"

    return Shown(heading, cell)


def _legend(ablation: Ablation) -> str:
    counts = ablation.counts
    kinds = [f"{counts.get('artists', 0):,} artists"]
    kinds += [
        f"{counts[role]:,} {KIND_NAMES[role]}{'' if role.startswith('query') else ' adapters'}"
        for role in ("val", "test", "query_val", "query_test")
        if role in counts
    ]
    drawn = any(level.n_draws(task) > 1 for level in ablation.levels for task in TASKS)
    parts = [
        f"Percent. {', '.join(kinds)}.",
        f"In brackets: {100 * LEVEL:.0f} % intervals over artists (docs/evaluation.md).",
        f"{CHOSEN.get(ablation.factor.name, 'PCs and calibration are')} chosen on validation.",
        "Drift: how far artists' means over test adapters are from those over fit adapters, in "
        "units of the spread within artists, before → after calibration; in brackets by chance.",
    ]
    if drawn:
        parts.append(
            "±: standard deviation over draws of adapters; scores and ends are means over draws."
        )
    return " ".join(parts)


def _without_constants(rows: Rows) -> Rows:
    """Without columns that say the same of each level, if they say no score."""
    optional = ("Representation", "Draws", "Calibration")
    keep = [
        place
        for place, heading in enumerate(rows[0])
        if place == 0 or heading not in optional or len({row[place] for row in rows[1:]}) > 1
    ]
    return [[row[place] for place in keep] for row in rows]


def _absences(ablation: Ablation) -> list[str]:
    """What is not in the tables, as items of a list."""
    absent = {
        f"{level.value}, {representation_name(level.representation)}: no {task}, {reason}"
        for level in ablation.levels
        for task, reason in level.absent.items()
    }
    left_out = {f"left out {name}: {reason}" for name, reason in ablation.left_out.items()}
    items = [f"- {_inert(one)}" for one in sorted(absent) + sorted(left_out)]
    return ["\n".join(items)] if items else []


def _inert(text: str) -> str:
    """Text that Markdown takes for text."""
    return text.replace("*", "\\*").replace("<", "&lt;").replace("\n", " ")
