"""Scores of the same adapters for every PC count.

A held-out set's name is free: a sweep passes the same validation adapters under the names of the
calibration forms, so that one k-means for each count and seed serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from lorastyle.evaluation.clustering import FIT, SeedScores, seed_scores
from lorastyle.evaluation.labelled import FloatArray, LabelledVectors
from lorastyle.evaluation.retrieval import score_ranking, sort_relevance

COUNT = "n_components"
CLUSTERING_COLUMNS = (
    *("ari_mean", "ari_std", "ari_se"),
    *("nmi_mean", "nmi_std", "nmi_se"),
    *("train_ari_mean", "train_ari_std"),
)
RETRIEVAL_COLUMNS = ("map", "map_se", "map_at_k", "map_at_k_se", "recall_at_k", "recall_at_k_se")
CURVE_COLUMNS = (COUNT, *CLUSTERING_COLUMNS, *RETRIEVAL_COLUMNS)

BLOCK = 64
"""Queries that are ranked at a time."""

Lines = list[dict[str, float]]


def clustering_curves(
    fit: LabelledVectors, held_out: Mapping[str, LabelledVectors], n_seeds: int
) -> dict[str, pd.DataFrame]:
    """For each held-out set a frame with a line for each PC count from 1 to the fit's width.

    Columns `n_components` and `CLUSTERING_COLUMNS`: mean, population standard deviation and
    standard error over k-means seeds. The frame of an empty set is empty.
    """
    points: dict[str, Lines] = {name: [] for name in held_out}
    for count in range(1, fit.vectors.shape[1] + 1):
        sets = {name: part.first(count) for name, part in held_out.items() if len(part)}
        if not sets:
            break
        scores = seed_scores(fit.first(count), sets, n_seeds)
        for name in sets:
            points[name].append({COUNT: count, **_clustering_point(scores[name], scores[FIT])})
    return {name: _frame(found, CLUSTERING_COLUMNS) for name, found in points.items()}


def retrieval_curves(
    gallery: LabelledVectors, queries: Mapping[str, LabelledVectors], top_k: int
) -> dict[str, pd.DataFrame]:
    """For each set of queries a frame with a line for each PC count from 1 to the gallery's width.

    Columns `n_components` and `RETRIEVAL_COLUMNS`: means and standard errors over the queries
    whose artist is in the gallery. A set without any has an empty frame.
    """
    return {
        name: _frame(list(_retrieval_points(gallery, part, top_k)), RETRIEVAL_COLUMNS)
        for name, part in queries.items()
    }


def merged(clustering: pd.DataFrame | None, retrieval: pd.DataFrame | None) -> pd.DataFrame:
    """Both tasks' curves in one frame of `CURVE_COLUMNS`; cells of an absent task are NaN."""
    left = _frame([], CLUSTERING_COLUMNS) if clustering is None else clustering
    right = _frame([], RETRIEVAL_COLUMNS) if retrieval is None else retrieval
    both = left.merge(right, how="outer", on=COUNT, sort=True)
    return both[list(CURVE_COLUMNS)]


def _clustering_point(held_out: SeedScores, fit: SeedScores) -> dict[str, float]:
    point = {"train_ari_mean": float(fit.ari.mean()), "train_ari_std": float(fit.ari.std())}
    for name, values in (("ari", held_out.ari), ("nmi", held_out.nmi)):
        point[f"{name}_mean"] = float(values.mean())
        point[f"{name}_std"] = float(values.std())
        point[f"{name}_se"] = standard_error(values)
    return point


def _retrieval_points(
    gallery: LabelledVectors, queries: LabelledVectors, top_k: int
) -> Iterator[dict[str, float]]:
    scores = _scores_by_count(gallery, queries, top_k)
    answerable = ~np.isnan(scores[0, 0]) if scores.size else np.zeros(0, np.bool_)
    if not answerable.any():
        return
    for count, values in enumerate(scores[:, :, answerable].swapaxes(0, 1), start=1):
        point: dict[str, float] = {COUNT: count}
        for name, each in zip(("map", "map_at_k", "recall_at_k"), values, strict=True):
            point[name] = float(each.mean())
            point[f"{name}_se"] = standard_error(each)
        yield point


def _scores_by_count(gallery: LabelledVectors, queries: LabelledVectors, top_k: int) -> FloatArray:
    """AP, AP at k and recall at k, of each count and query: (3, n_counts, n_queries)."""
    relevant = queries.artists[:, None] == gallery.artists[None, :]
    scores = np.empty((3, gallery.vectors.shape[1], len(queries)))
    # Some queries at a time, whose distances then stay in the processor's cache.
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        squares = np.zeros(relevant[block].shape)
        for component, column in enumerate(gallery.vectors.T.copy()):
            # Each component adds its squares to the distances that fewer components gave.
            squares += (queries.vectors[block, component, None] - column) ** 2
            found = score_ranking(sort_relevance(squares, relevant[block]), top_k)
            scores[:, component, block] = (
                found.average_precision,
                found.average_precision_at_k,
                found.recall_at_k,
            )
    return scores


def standard_error(values: FloatArray) -> float:
    """Sample standard deviation over the root of the number of values (n,); 0 for a single one.

    >>> standard_error(np.array([1.0, 3.0]))
    1.0
    """
    if len(values) < 2:
        return 0.0
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _frame(points: Lines, columns: tuple[str, ...]) -> pd.DataFrame:
    types = {COUNT: np.int64} | dict.fromkeys(columns, np.float64)
    return pd.DataFrame(points, columns=[COUNT, *columns]).astype(types)
