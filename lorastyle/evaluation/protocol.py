"""The two tasks of the paper on one style space or image feature: vectors in, scores out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lorastyle.config import CalibrationForm, Experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.style_space import Rows, StyleSpace, Task, space_of
from lorastyle.errors import TooFewAdaptersError
from lorastyle.evaluation.clustering import cluster_scores
from lorastyle.evaluation.labelled import LabelledVectors, TaskVectors
from lorastyle.evaluation.retrieval import Metric, RetrievalScores, intervals, retrieve
from lorastyle.records import UNLABELLED, Role

HELD_OUT: Mapping[Task, Mapping[str, Role]] = {
    "clustering": {"val": Role.VAL, "test": Role.TEST},
    "retrieval": {"val": Role.QUERY_VAL, "test": Role.QUERY_TEST},
}
"""Which adapters a task measures on each split."""


@dataclass(frozen=True)
class ProtocolSettings:
    """What the scores depend on besides the vectors."""

    n_seeds: int
    top_k: int

    @classmethod
    def of(cls, experiment: Experiment) -> ProtocolSettings:
        """`top_k` is by default the number of gallery adapters of an artist."""
        top_k = experiment.evaluation.top_k or experiment.protocol.train
        return cls(experiment.evaluation.n_kmeans_seeds, top_k)


@dataclass(frozen=True)
class Setting:
    """One representation and sub-network: a fitted style space for each task that has one."""

    representation: str
    sub_network: str
    spaces: Mapping[Task, StyleSpace]
    absent: Mapping[Task, str]
    """Why a task has no space."""
    forms: Mapping[Task, CalibrationForm]
    """How each task's space is calibrated."""

    @property
    def key(self) -> str:
        """Its name among the metrics."""
        return f"{self.representation}/{self.sub_network}"

    def calibrated_as(self, forms: Mapping[Task, CalibrationForm]) -> Setting:
        """The same spaces, those of these tasks with another form of calibration."""
        spaces = {
            task: space.calibrated_as(forms[task]) if task in forms else space
            for task, space in self.spaces.items()
        }
        return replace(self, spaces=spaces, forms={**self.forms, **forms})

    @cached_property
    def vectors(self) -> dict[Task, TaskVectors]:
        """What each task compares, under all components."""
        return {task: task_vectors(space) for task, space in self.spaces.items()}


def fit_setting(
    grams: GramSet,
    rows: pd.DataFrame | None,
    representation: str,
    sub_network: str,
    experiment: Experiment,
    tasks: Iterable[Task] = tuple(HELD_OUT),
) -> Setting:
    """Fit the style spaces of these tasks, as the experiment wants them.

    `rows` is the part of `grams.table` to use, None for all.
    """
    names = representation, sub_network
    gram = grams.matrix(*names)
    spaces: dict[Task, StyleSpace] = {}
    absent: dict[Task, str] = {}
    for task in tasks:
        try:
            spaces[task] = space_of(experiment, grams, rows, task, *names, gram)
            _check_clusters(spaces[task])
        except TooFewAdaptersError as error:
            spaces.pop(task, None)
            absent[task] = str(error)
    forms = dict.fromkeys(spaces, experiment.embedding.calibration_form)
    return Setting(representation, sub_network, spaces, absent, forms)


def _check_clusters(space: StyleSpace) -> None:
    n_artists = len(np.unique(space.artists(_labelled(space, space.fit_rows)).astype(np.str_)))
    if n_artists < 2:
        raise TooFewAdaptersError(
            f"the {space.task} task compares artists, and its {len(space.fit_rows)} fit adapters "
            f"have {n_artists}; train or label adapters of at least 2"
        )


def _labelled(space: StyleSpace, rows: Rows) -> Rows:
    """Those whose artist is known: the others shape the space, and are not measured."""
    return np.asarray(rows[space.artists(rows) != UNLABELLED])


def labelled_vectors(space: StyleSpace, role: Role, *, calibrated: bool = True) -> LabelledVectors:
    """Scores of the adapters of a role whose artist is known; of `train`, those the PCA saw."""
    return labelled_rows(space, space.rows(role), calibrated=calibrated)


def labelled_rows(space: StyleSpace, rows: Rows, *, calibrated: bool = True) -> LabelledVectors:
    """Scores of those of the rows whose artist is known."""
    rows = _labelled(space, rows)
    scores = space.scores(rows, calibrated=calibrated)
    return LabelledVectors(scores, space.artists(rows).astype(np.str_))


def task_vectors(space: StyleSpace) -> TaskVectors:
    """Scores of the fit adapters, and of the held-out ones with and without calibration."""
    roles = HELD_OUT[space.task].items()
    before = roles if space.is_calibrated else ()
    return TaskVectors(
        labelled_vectors(space, Role.TRAIN),
        {name: labelled_vectors(space, role) for name, role in roles},
        {name: labelled_vectors(space, role, calibrated=False) for name, role in before},
    )


def clustering_entry(vectors: TaskVectors, settings: ProtocolSettings) -> dict[str, Any]:
    """`{"train|val|test": {"ari", "nmi"}, "uncalibrated": {...}}`; what is empty is absent."""
    scores = cluster_scores(vectors.fit, vectors.parts, settings.n_seeds)
    return _nest({name: score.to_dict() for name, score in scores.items()})


def retrieval_entry(
    vectors: TaskVectors, settings: ProtocolSettings, metric: Metric
) -> tuple[dict[str, Any], dict[str, RetrievalScores]]:
    """`{"val|test": {"map", ..., "ci"}, "uncalibrated": {...}}`, and the scores of single queries.

    The second is named like the first: `val`, `test`, `uncalibrated/val`, ...
    """
    scores = retrieve(vectors.fit, vectors.parts, settings.top_k, metric)
    means = {
        name: score.to_dict() | intervals(score, vectors.parts[name].artists)
        for name, score in scores.items()
        if score.n_queries
    }
    return _nest(means), scores


def _nest(entries: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, entry in entries.items():
        group, slash, split = name.partition("/")
        if slash:
            nested.setdefault(group, {})[split] = entry
        else:
            nested[name] = entry
    return nested


def absences(task: Task, entry: Mapping[str, Any], vectors: TaskVectors) -> dict[str, str]:
    """Why a split is not in an entry, as `SPLIT_reason`."""
    reasons = {}
    for name, role in HELD_OUT[task].items():
        if name not in entry:
            n_adapters = len(vectors.held_out[name]) if name in vectors.held_out else 0
            reasons[f"{name}_reason"] = (
                f"none of {n_adapters} '{role.value}' adapters has an artist in the gallery"
                if n_adapters
                else f"there is no usable '{role.value}' adapter"
            )
    return reasons
