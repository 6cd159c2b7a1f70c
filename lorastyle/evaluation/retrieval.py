"""Retrieval: does a query find the adapters of its artist? Paper, section 4.4.

A query ranks the whole gallery by distance; equal distances keep gallery order. Three numbers
describe a ranking:

- average precision (AP): the mean, over *all* gallery adapters of the query's artist, of the
  precision at the rank where each is found. Their mean over queries is `map`.
- recall at k: the share of those adapters among the first k.
- AP at k: the mean precision at the ranks of those found *among the first k*, 0 where none is.
  It forgives what was not found. The paper does not define its mAP; in its Table 4 it exceeds
  Recall@24 so far, even without calibration (31.4 against 19.5), that it is probably this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lorastyle.errors import TooFewAdaptersError
from lorastyle.evaluation.intervals import bootstrap_means
from lorastyle.evaluation.labelled import FloatArray, LabelledVectors

Metric = Literal["euclidean", "cosine"]
BoolArray = NDArray[np.bool_]

SCORES: Mapping[str, str] = {
    "map": "average_precision",
    "map_at_k": "average_precision_at_k",
    "recall_at_k": "recall_at_k",
}
"""Names of the means, and of the single queries' values."""


@dataclass(frozen=True)
class RetrievalScores:
    """One value per query, each (n_queries,); NaN where no gallery adapter could be found."""

    average_precision: FloatArray
    average_precision_at_k: FloatArray
    recall_at_k: FloatArray

    @property
    def answerable(self) -> BoolArray:
        """Queries whose artist has an adapter in the gallery."""
        return ~np.isnan(self.average_precision)

    @property
    def n_queries(self) -> int:
        """How many queries the means are over."""
        return int(self.answerable.sum())

    def to_dict(self) -> dict[str, float | int]:
        """Means over the answerable queries, in fractions of one.

        Raises TooFewAdaptersError if there is none.
        """
        if self.n_queries == 0:
            raise TooFewAdaptersError(
                f"none of {len(self.average_precision)} queries has an artist in the gallery; "
                "train gallery adapters of the queries' artists"
            )
        means = {
            name: float(getattr(self, values)[self.answerable].mean())
            for name, values in SCORES.items()
        }
        return {**means, "n_queries": self.n_queries}


def intervals(scores: RetrievalScores, artists: NDArray[np.str_]) -> dict[str, Any]:
    """How sure the means are: `{"ci": {"map": [low, high], ...}, "ci_queries": {...}}`.

    `ci` draws the queries' artists again, `ci_queries` the queries as if they were independent
    (`intervals.py`). `artists` (n_queries,) are theirs. Of one artist there is no interval.
    """
    answerable = scores.answerable
    artists = artists[answerable]
    if len(np.unique(artists)) < 2:
        return {}
    values = [getattr(scores, name)[answerable] for name in SCORES.values()]
    groups = {"ci": artists, "ci_queries": np.arange(len(artists))}
    return {
        kind: dict(
            zip(SCORES, bootstrap_means(np.stack(values, axis=1), each).tolist(), strict=True)
        )
        for kind, each in groups.items()
    }


def distances(queries: FloatArray, gallery: FloatArray, metric: Metric) -> FloatArray:
    """Distance of each query to each gallery vector, (n_queries, n_gallery).

    A zero vector has no direction: its cosine distance to anything is 1.
    """
    if metric == "euclidean":
        return np.asarray(cdist(queries, gallery, "euclidean"))
    return 1.0 - _unit(queries) @ _unit(gallery).T


def rank(
    distance: FloatArray, query_artists: NDArray[np.str_], gallery_artists: NDArray[np.str_]
) -> BoolArray:
    """Per query, nearest first: is this gallery adapter by the query's artist?

    Shapes: distance (n_queries, n_gallery), the same as the result. Ties keep gallery order.

    >>> rank(np.array([[0.5, 0.1, 0.5]]), np.array(["a"]), np.array(["a", "b", "a"]))
    array([[False,  True,  True]])
    """
    return sort_relevance(distance, query_artists[:, None] == gallery_artists[None, :])


def sort_relevance(distance: FloatArray, relevant: BoolArray) -> BoolArray:
    """`rank`, told which gallery adapters are relevant: all arrays (n_queries, n_gallery)."""
    if not (distance >= 0).all():
        return _ranked_stably(distance, relevant)
    # Non-negative doubles sort as whole numbers; the last bit, taken from the distance, carries
    # the flag through a sort that moves nothing else. Adding 0 turns -0 into 0.
    keys = (np.asarray(distance, np.float64) + 0.0).view(np.int64)
    np.bitwise_or(keys & ~1, relevant, out=keys)
    keys.sort(axis=1)
    # Neighbours that differ in the flag alone: the order of the two is the gallery's to decide.
    tied = np.flatnonzero(((keys[:, 1:] ^ keys[:, :-1]) == 1).any(axis=1))
    ranked = (keys & 1).astype(np.bool_)
    if len(tied):
        ranked[tied] = _ranked_stably(distance[tied], relevant[tied])
    return ranked


def _ranked_stably(distance: FloatArray, relevant: BoolArray) -> BoolArray:
    order = np.argsort(distance, axis=1, kind="stable")
    return np.asarray(np.take_along_axis(relevant, order, axis=1))


def average_precision(ranked: BoolArray) -> FloatArray:
    """AP of each ranking over all that is relevant in it; NaN where nothing is.

    Shapes: ranked (n_queries, n_gallery), result (n_queries,).

    >>> average_precision(np.array([[True, False, True]])).round(3)
    array([0.833])
    """
    return score_ranking(ranked, ranked.shape[1]).average_precision


def average_precision_at_k(ranked: BoolArray, top_k: int) -> FloatArray:
    """AP among the first `top_k`, over what was found there; 0 where nothing was.

    >>> average_precision_at_k(np.array([[True, False, False, True]]), top_k=2)
    array([1.])
    """
    return score_ranking(ranked, top_k).average_precision_at_k


def recall_at_k(ranked: BoolArray, top_k: int) -> FloatArray:
    """Share of all relevant adapters that are among the first `top_k`; NaN where none is.

    >>> recall_at_k(np.array([[True, False, False, True]]), top_k=2)
    array([0.5])
    """
    return score_ranking(ranked, top_k).recall_at_k


def score_ranking(ranked: BoolArray, top_k: int) -> RetrievalScores:
    """All three numbers of each ranking."""
    n_queries, n_gallery = ranked.shape
    # Only ranks with a relevant adapter count, and they are few.
    query, rank_before = np.divmod(np.flatnonzero(ranked), max(n_gallery, 1))
    n_relevant = np.bincount(query, minlength=n_queries)
    first_hit = np.cumsum(n_relevant) - n_relevant
    precision = (np.arange(1, len(query) + 1) - first_hit[query]) / (rank_before + 1)
    early = rank_before < top_k
    n_early = np.bincount(query[early], minlength=n_queries)

    def ratio(sums: NDArray[Any], counts: NDArray[Any]) -> FloatArray:
        return np.where(n_relevant > 0, sums / np.maximum(counts, 1), np.nan)

    return RetrievalScores(
        ratio(np.bincount(query, precision, n_queries), n_relevant),
        ratio(np.bincount(query[early], precision[early], n_queries), n_early),
        ratio(n_early, n_relevant),
    )


def retrieve(
    gallery: LabelledVectors, queries: Mapping[str, LabelledVectors], top_k: int, metric: Metric
) -> dict[str, RetrievalScores]:
    """Scores of every set of queries against one gallery. Empty sets are left out."""
    return {
        name: score_ranking(
            rank(distances(part.vectors, gallery.vectors, metric), part.artists, gallery.artists),
            top_k,
        )
        for name, part in queries.items()
        if len(part)
    }


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0))
