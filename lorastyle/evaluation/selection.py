"""Which PC count and calibration: chosen on validation only, by one rule.

The rule is that of one standard error (Breiman et al. 1984, "Classification and Regression
Trees", section 3.4.3): of the PC counts whose score is within one standard error of the best, the
smallest. The error is that of the best score's mean: over k-means seeds for ARI and NMI, over
queries for mAP and recall. With `rule: best` it is the smallest of the best. Nothing here looks at
a test adapter. A sweep's trial and the evaluation call the same functions, so they cannot choose
differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lorastyle.config import CalibrationForm, Experiment, SweepConfig
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.style_space import StyleSpace, Task
from lorastyle.errors import TooFewAdaptersError
from lorastyle.evaluation.curves import (
    CURVE_COLUMNS,
    clustering_curves,
    merged,
    retrieval_curves,
)
from lorastyle.evaluation.labelled import LabelledVectors
from lorastyle.evaluation.protocol import (
    HELD_OUT,
    ProtocolSettings,
    Setting,
    fit_setting,
    labelled_vectors,
)
from lorastyle.records import Role

VALIDATION = "val"
Curves = Mapping[CalibrationForm, pd.DataFrame]
"""Validation scores for every PC count from 1, `CURVE_COLUMNS`, for each form of calibration."""


@dataclass(frozen=True)
class Objective:
    """What is maximised: a column of a curve, and the one of its standard error."""

    name: str
    task: Task
    column: str
    error: str


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("ari", "clustering", "ari_mean", "ari_se"),
        Objective("nmi", "clustering", "nmi_mean", "nmi_se"),
        Objective("map", "retrieval", "map", "map_se"),
        Objective("recall_at_k", "retrieval", "recall_at_k", "recall_at_k_se"),
    )
}


@dataclass(frozen=True)
class Choice:
    """A PC count and form of calibration, and what the largest score alone would have said."""

    objective: Objective
    calibration: CalibrationForm
    n_components: int
    validation: Mapping[str, float] = field(repr=False)
    """The curve's point there; what is unknown is absent."""
    argmax: Mapping[str, float] = field(repr=False)
    """The point of the largest score: its `n_components`, score and standard error."""

    @property
    def best_score(self) -> float:
        """The largest score on the curve, by which settings are compared."""
        return float(self.argmax[self.objective.column])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "objective": self.objective.name,
            "calibration": self.calibration,
            "n_components": self.n_components,
            "validation": dict(self.validation),
            "argmax": dict(self.argmax),
        }


def task_objectives(sweep: SweepConfig) -> dict[Task, Objective]:
    """What each task is chosen by."""
    return {
        "clustering": OBJECTIVES[sweep.clustering_objective],
        "retrieval": OBJECTIVES[sweep.retrieval_objective],
    }


def calibration_forms(experiment: Experiment) -> tuple[CalibrationForm, ...]:
    """The forms to be tried: those of `sweep`, or else that of `embedding`."""
    wanted = experiment.sweep.calibration_forms or (experiment.embedding.calibration_form,)
    return tuple(dict.fromkeys(wanted))


def choose(curves: Curves, objective: Objective, rule: str) -> Choice | None:
    """The choice by one objective; None where no form has a score.

    Of several forms the one with the largest score, the first among equals.
    """
    found = [
        choice
        for form, curve in curves.items()
        if (choice := _choose_count(form, curve, objective, rule)) is not None
    ]
    return max(found, key=lambda choice: choice.best_score, default=None)


def choices_of(curves: Curves, sweep: SweepConfig) -> dict[Task, Choice]:
    """The choice of each task that has validation scores."""
    found = {
        task: choose(curves, objective, sweep.rule)
        for task, objective in task_objectives(sweep).items()
    }
    return {task: choice for task, choice in found.items() if choice is not None}


def _choose_count(
    form: CalibrationForm, curve: pd.DataFrame, objective: Objective, rule: str
) -> Choice | None:
    scored = curve.dropna(subset=[objective.column]).sort_values("n_components")
    if scored.empty:
        return None
    scores = scored[objective.column].to_numpy(np.float64)
    best = int(scores.argmax())
    least = scores[best]
    if rule == "one_standard_error":
        error = float(scored[objective.error].to_numpy(np.float64)[best])
        least = least - error if np.isfinite(error) else least
    chosen = int((scores >= least).argmax())
    points = curve_points(scored)
    named = ("n_components", objective.column, objective.error)
    return Choice(
        objective,
        form,
        int(points[chosen]["n_components"]),
        points[chosen],
        {name: points[best][name] for name in named if name in points[best]},
    )


def evaluate_setting(
    grams: GramSet,
    rows: pd.DataFrame | None,
    representation: str,
    sub_network: str,
    experiment: Experiment,
) -> dict[str, Any]:
    """One representation and sub-network, on validation: a curve for each form of calibration.

    Returns plain values::

        {"representation", "sub_network",
         "curves": {FORM: [{"n_components", "ari_mean", ...}, ...]}}    what is unknown is absent

    `rows` is the part of `grams.table` to use, None for all.
    """
    setting = fit_setting(grams, rows, representation, sub_network, experiment)
    curves = setting_curves(setting, calibration_forms(experiment), ProtocolSettings.of(experiment))
    return {
        "representation": representation,
        "sub_network": sub_network,
        "curves": {form: curve_points(curve) for form, curve in curves.items()},
    }


def setting_curves(
    setting: Setting, forms: Sequence[CalibrationForm], settings: ProtocolSettings
) -> dict[CalibrationForm, pd.DataFrame]:
    """The curves of a setting. A task without a space or validation adapters has empty cells."""
    clustering: Mapping[str, pd.DataFrame] = {}
    retrieval: Mapping[str, pd.DataFrame] = {}
    if (space := setting.spaces.get("clustering")) is not None:
        fit, held_out = _validation(space, forms)
        if held_out:
            clustering = clustering_curves(fit, held_out, settings.n_seeds)
    if (space := setting.spaces.get("retrieval")) is not None:
        gallery, queries = _validation(space, forms)
        if queries:
            retrieval = retrieval_curves(gallery, queries, settings.top_k)
    return {form: merged(clustering.get(form), retrieval.get(form)) for form in forms}


def _validation(
    space: StyleSpace, forms: Sequence[CalibrationForm]
) -> tuple[LabelledVectors, dict[str, LabelledVectors]]:
    """The fit set, and the validation adapters under each form that can be fitted."""
    held_out = dict(_calibrated(space, forms))
    fit = labelled_vectors(space, Role.TRAIN)
    return fit, {form: part for form, part in held_out.items() if len(part)}


def _calibrated(
    space: StyleSpace, forms: Sequence[CalibrationForm]
) -> Iterator[tuple[str, LabelledVectors]]:
    for form in forms:
        try:
            calibrated = space.calibrated_as(form)
        except TooFewAdaptersError:
            continue  # `full` needs an artist more than `simple`
        yield form, labelled_vectors(calibrated, HELD_OUT[space.task][VALIDATION])


def curve_inputs(experiment: Experiment) -> dict[str, Any]:
    """The settings, besides the embedding, that validation curves depend on."""
    return {
        "embedding": experiment.embedding.model_dump(mode="json", include={"max_components"}),
        "evaluation": experiment.evaluation.model_dump(
            mode="json", include={"n_kmeans_seeds", "top_k"}
        ),
        "protocol": experiment.protocol.model_dump(mode="json", include={"train", "calibration"}),
        "calibration_forms": list(calibration_forms(experiment)),
    }


def choice_inputs(experiment: Experiment) -> dict[str, Any]:
    """The settings that a choice from given curves depends on."""
    return experiment.sweep.model_dump(
        mode="json", include={"clustering_objective", "retrieval_objective", "rule"}
    )


def curve_points(curve: pd.DataFrame) -> list[dict[str, Any]]:
    """A curve as plain values, without the cells that are empty."""
    return [
        {
            str(name): int(value) if name == "n_components" else float(value)
            for name, value in row.items()
            if pd.notna(value)
        }
        for row in curve.to_dict("records")
    ]


def curve_of(points: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The inverse of `curve_points`."""
    return pd.DataFrame(list(points), columns=list(CURVE_COLUMNS)).astype(
        {"n_components": np.int64} | dict.fromkeys(CURVE_COLUMNS[1:], np.float64)
    )
