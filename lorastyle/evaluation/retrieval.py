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
from lorastyle.evaluation.labelled import FloatArray, LabelledVectors

Metric = Literal["euclidean", "cosine"]
BoolArray = NDArray[np.bool_]


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
        return {
            "map": float(self.average_precision[self.answerable].mean()),
            "map_at_k": float(self.average_precision_at_k[self.answerable].mean()),
            "recall_at_k": float(self.recall_at_k[self.answerable].mean()),
            "n_queries": self.n_queries,
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
    order = np.argsort(distance, axis=1, kind="stable")
    relevant = query_artists[:, None] == gallery_artists[None, :]
    return np.asarray(np.take_along_axis(relevant, order, axis=1))


def average_precision(ranked: BoolArray) -> FloatArray:
    """AP of each ranking over all that is relevant in it; NaN where nothing is.

    Shapes: ranked (n_queries, n_gallery), result (n_queries,).

    >>> average_precision(np.array([[True, False, True]])).round(3)
    array([0.833])
    """
    n_relevant = ranked.sum(axis=1)
    return _ratio(_precision_at_hits(ranked).sum(axis=1), n_relevant)


def average_precision_at_k(ranked: BoolArray, top_k: int) -> FloatArray:
    """AP among the first `top_k`, over what was found there; 0 where nothing was.

    >>> average_precision_at_k(np.array([[True, False, False, True]]), top_k=2)
    array([1.])
    """
    first = ranked[:, :top_k]
    precision = _precision_at_hits(first).sum(axis=1) / np.maximum(first.sum(axis=1), 1)
    return np.where(ranked.any(axis=1), precision, np.nan)


def recall_at_k(ranked: BoolArray, top_k: int) -> FloatArray:
    """Share of all relevant adapters that are among the first `top_k`; NaN where none is.

    >>> recall_at_k(np.array([[True, False, False, True]]), top_k=2)
    array([0.5])
    """
    return _ratio(ranked[:, :top_k].sum(axis=1), ranked.sum(axis=1))


def score_ranking(ranked: BoolArray, top_k: int) -> RetrievalScores:
    """All three numbers of each ranking."""
    return RetrievalScores(
        average_precision(ranked),
        average_precision_at_k(ranked, top_k),
        recall_at_k(ranked, top_k),
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


def _precision_at_hits(ranked: BoolArray) -> FloatArray:
    """Precision at each rank that holds a relevant adapter, 0 at the others."""
    ranks = np.arange(1, ranked.shape[1] + 1)
    return np.where(ranked, np.cumsum(ranked, axis=1) / ranks, 0.0)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> FloatArray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0))
