"""How many components: scored for every PC count, on validation only.

The best count is the argmax of validation ARI (clustering) or mAP (retrieval); among equals the
smallest. Nothing here looks at a test adapter. A sweep's trial and the evaluation call the same
function, so they cannot choose differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lorastyle.config import Experiment
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.style_space import Task
from lorastyle.evaluation.clustering import cluster_scores
from lorastyle.evaluation.labelled import LabelledVectors, TaskVectors
from lorastyle.evaluation.protocol import ProtocolSettings, Setting, fit_setting
from lorastyle.evaluation.retrieval import rank, score_ranking

VALIDATION = "val"
OBJECTIVES: Mapping[Task, str] = {"clustering": "ari_mean", "retrieval": "map"}
"""The column of a curve that a task's PC count maximises."""
CURVE_COLUMNS = (
    "n_components",
    "ari_mean",
    "ari_std",
    "nmi_mean",
    "nmi_std",
    "map",
    "map_at_k",
    "recall_at_k",
)


def score_curve(
    clustering: TaskVectors | None, retrieval: TaskVectors | None, settings: ProtocolSettings
) -> pd.DataFrame:
    """Validation scores for every PC count from 1; columns `CURVE_COLUMNS`.

    A task that is None, has no validation adapters, or has fewer components than
    the other leaves its cells empty (NaN).
    """
    merged: dict[int, dict[str, float]] = {}
    tasks = (_clustering_points(clustering, settings), _retrieval_points(retrieval, settings))
    for points in tasks:
        for n_components, scores in points:
            merged.setdefault(n_components, {}).update(scores)
    rows = [{"n_components": count, **merged[count]} for count in sorted(merged)]
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS)).astype(
        {"n_components": np.int64} | dict.fromkeys(CURVE_COLUMNS[1:], np.float64)
    )


def choose(curve: pd.DataFrame, objective: str) -> int | None:
    """The PC count with the highest score, the smallest among equals; None without scores.

    >>> choose(pd.DataFrame({"n_components": [1, 2, 3], "map": [0.2, 0.7, 0.7]}), "map")
    2
    """
    scored = curve.dropna(subset=[objective]).sort_values("n_components")
    if scored.empty:
        return None
    return int(scored["n_components"].to_numpy()[scored[objective].to_numpy().argmax()])


def choose_counts(curve: pd.DataFrame) -> dict[Task, int]:
    """The chosen PC count of each task that has validation scores."""
    counts = {task: choose(curve, objective) for task, objective in OBJECTIVES.items()}
    return {task: count for task, count in counts.items() if count is not None}


def evaluate_setting(
    grams: GramSet,
    rows: pd.DataFrame | None,
    representation: str,
    sub_network: str,
    experiment: Experiment,
) -> dict[str, Any]:
    """One representation and sub-network, on validation: the curve and the best counts.

    Returns plain values::

        {"representation", "sub_network",
         "curve": [{"n_components", "ari_mean", ...}, ...],     what is unknown is absent
         "best": {"clustering": {"n_components", "ari_mean", ...}, "retrieval": {...}}}

    `rows` is the part of `grams.table` to use, None for all. A task without enough
    adapters is absent from `best`.
    """
    setting = fit_setting(grams, rows, representation, sub_network, experiment)
    curve = setting_curve(setting, ProtocolSettings.of(experiment))
    points = curve_points(curve)
    best = {
        task: next(point for point in points if point["n_components"] == count)
        for task, count in choose_counts(curve).items()
    }
    return {
        "representation": representation,
        "sub_network": sub_network,
        "curve": points,
        "best": best,
    }


def setting_curve(setting: Setting, settings: ProtocolSettings) -> pd.DataFrame:
    """`score_curve` of a setting; tasks without a space leave their cells empty."""
    vectors = setting.vectors
    return score_curve(vectors.get("clustering"), vectors.get("retrieval"), settings)


def curve_inputs(experiment: Experiment) -> dict[str, Any]:
    """The settings, besides the embedding, that a validation curve depends on."""
    return {
        "embedding": experiment.embedding.model_dump(
            mode="json", include={"max_components", "calibration_form"}
        ),
        "evaluation": experiment.evaluation.model_dump(
            mode="json", include={"n_kmeans_seeds", "top_k"}
        ),
        "protocol": experiment.protocol.model_dump(mode="json", include={"train", "calibration"}),
    }


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


def _validation(vectors: TaskVectors | None) -> LabelledVectors | None:
    part = vectors.held_out.get(VALIDATION) if vectors is not None else None
    return part if part is not None and len(part) else None


def _clustering_points(
    vectors: TaskVectors | None, settings: ProtocolSettings
) -> Iterator[tuple[int, dict[str, float]]]:
    validation = _validation(vectors)
    if vectors is None or validation is None:
        return
    for count in range(1, vectors.n_components + 1):
        held_out = {VALIDATION: validation.first(count)}
        scores = cluster_scores(vectors.fit.first(count), held_out, settings.n_seeds)[VALIDATION]
        yield (
            count,
            {
                "ari_mean": scores.ari.mean,
                "ari_std": scores.ari.std,
                "nmi_mean": scores.nmi.mean,
                "nmi_std": scores.nmi.std,
            },
        )


def _retrieval_points(
    vectors: TaskVectors | None, settings: ProtocolSettings
) -> Iterator[tuple[int, dict[str, float]]]:
    queries = _validation(vectors)
    if vectors is None or queries is None:
        return
    # Each component adds its squares to the distances that fewer components gave.
    squares = np.zeros((len(queries), len(vectors.fit)))
    for component in range(vectors.n_components):
        column = queries.vectors[:, [component]] - vectors.fit.vectors[:, component]
        squares += column**2
        scores = score_ranking(rank(squares, queries.artists, vectors.fit.artists), settings.top_k)
        if scores.n_queries:
            means = scores.to_dict()
            yield component + 1, {name: means[name] for name in ("map", "map_at_k", "recall_at_k")}
