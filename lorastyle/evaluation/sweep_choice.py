"""From the scores of all trials to the choice: which setting, calibration and PC count.

Settings are compared by the largest validation score of their curves, the first among equals;
within the winner the rule of `selection` chooses the PC count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lorastyle.config import Experiment
from lorastyle.embedding.style_space import Task
from lorastyle.evaluation.curves import CURVE_COLUMNS
from lorastyle.evaluation.selection import (
    OBJECTIVES,
    Choice,
    Curves,
    Objective,
    choose,
    curve_of,
    task_objectives,
)
from lorastyle.evaluation.swept import RESULT_COLUMNS, SweptSetting

Found = Mapping[str, Any]
"""What a trial found: `share`, and `curves` by form of calibration, as lists of points."""


def results_table(settings: Sequence[SweptSetting], found: Sequence[Found]) -> pd.DataFrame:
    """A line for each setting, form and PC count: `RESULT_COLUMNS`."""
    rows = [
        {**setting.to_dict(), "share": each["share"], "calibration": form, **point}
        for setting, each in zip(settings, found, strict=True)
        for form, points in each["curves"].items()
        for point in points
    ]
    table = pd.DataFrame(rows, columns=list(RESULT_COLUMNS))
    types = {"rank": "Int64", "n_components": "int64"}
    return table.astype(types | dict.fromkeys(("share", *CURVE_COLUMNS[1:]), "float64"))


def choose_best(
    settings: Sequence[SweptSetting], found: Sequence[Found], experiment: Experiment
) -> dict[str, Any]:
    """What `best.yaml` holds, but for the scores on test: plain values.

    `best`: by task, chosen by its objective. `objectives`: the same by every objective.
    `settings`: by key, of each setting the choice for each task.
    """
    sweep = experiment.sweep
    points: dict[str, dict[str, Any]] = {name: {} for name in OBJECTIVES}
    for setting, each in zip(settings, found, strict=True):
        for choice in _choices(each, sweep.rule):
            point = {**setting.to_dict(), "share": each["share"], **choice.to_dict()}
            points[choice.objective.name][setting.key] = point
    by_task = task_objectives(sweep)
    winners = {name: _winner(points[name], OBJECTIVES[name]) for name in OBJECTIVES}
    # Copies: these get their scores on test besides.
    chosen: dict[Task, Any] = {
        task: dict(winner)
        for task, objective in by_task.items()
        if (winner := winners[objective.name]) is not None
    }
    return {
        "rule": sweep.rule,
        "best": chosen,
        "objectives": {name: winner for name, winner in winners.items() if winner is not None},
        "settings": {
            setting.key: {
                task: points[objective.name][setting.key]
                for task, objective in by_task.items()
                if setting.key in points[objective.name]
            }
            for setting in settings
        },
    }


def _choices(found: Found, rule: str) -> Iterator[Choice]:
    curves: Curves = {form: curve_of(points) for form, points in found["curves"].items()}
    for objective in OBJECTIVES.values():
        choice = choose(curves, objective, rule)
        if choice is not None:
            yield choice


def _winner(points: Mapping[str, Any], objective: Objective) -> Mapping[str, Any] | None:
    column = objective.column
    return max(points.values(), key=lambda point: point["argmax"][column], default=None)
