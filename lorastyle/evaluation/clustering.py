"""Clustering: do the clusters of the vectors match the artists? Paper, section 4.3.

K-means, with as many clusters as artists, is fitted on the fit adapters. Held-out adapters are
*assigned* to those centroids, not clustered among themselves: a held-out set that moved as a
whole would cluster well by itself and yet be of no use beside the database. This is also the only
reading under which the paper's uncalibrated scores (ARI 16.7 %, NMI 82 %) come out so low.

Each seed is one k-means++ start (`n_init=1`, the default of scikit-learn since 1.4), which is why
the paper and we report a spread over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorastyle.evaluation.agreement import (
    ARI_RANGE,
    NMI_RANGE,
    adjusted_rand_indices,
    contingencies,
    encode,
    normalized_mutual_informations,
    without_each_truth,
)
from lorastyle.evaluation.intervals import Interval, jackknife_interval
from lorastyle.evaluation.kmeans import k_means
from lorastyle.evaluation.labelled import FloatArray, LabelledVectors
from lorastyle.evaluation.squares import nearest_centroids

IntArray = NDArray[np.int64]
FIT = "train"
"""Name of the fit set among the results."""
FEWEST_ARTISTS = 3
"""Of a held-out set that is given an interval: one is left out, and two must be told apart."""


@dataclass(frozen=True)
class Spread:
    """Mean and population standard deviation over k-means seeds."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: FloatArray) -> Spread:
        return cls(float(values.mean()), float(values.std()))

    def to_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "std": self.std}


@dataclass(frozen=True)
class SeedScores:
    """One value for each k-means seed, each (n_seeds,)."""

    ari: FloatArray
    nmi: FloatArray


@dataclass(frozen=True)
class ClusteringScore:
    """Agreement of clusters with artists, in fractions of one.

    `intervals` are those of the means, over artists (`intervals.py`): for held-out sets of at
    least three.
    """

    ari: Spread
    nmi: Spread
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """`{"ari": {"mean", "std"}, "nmi": {...}, "ci": {"ari": [low, high], "nmi": [...]}}`."""
        found: dict[str, Any] = {"ari": self.ari.to_dict(), "nmi": self.nmi.to_dict()}
        if self.intervals:
            found["ci"] = {name: list(ends) for name, ends in self.intervals.items()}
        return found


def fit_centroids(vectors: FloatArray, n_clusters: int, seed: int) -> tuple[IntArray, FloatArray]:
    """K-means of the fit vectors: their labels (n,) and the centroids (n_clusters, k).

    Raises TooFewAdaptersError if there are fewer vectors than clusters.
    """
    clusters = k_means(vectors, n_clusters, [seed])
    return clusters.labels[0], clusters.centroids[0]


def assign(vectors: FloatArray, centroids: FloatArray) -> IntArray:
    """The nearest centroid of each vector, the first among equals.

    >>> assign(np.array([[0.1], [0.9]]), np.array([[0.0], [1.0]]))
    array([0, 1])
    """
    return np.asarray(nearest_centroids(vectors, centroids[None])[0])


def seed_scores(
    fit: LabelledVectors, held_out: Mapping[str, LabelledVectors], n_seeds: int
) -> dict[str, SeedScores]:
    """Scores of the fit set (under the name `train`) and of every held-out set, a value a seed.

    All sets of one seed are judged by the same centroids. Empty sets are left out.
    """
    return {name: _agreement(tables) for name, tables in _tables(fit, held_out, n_seeds).items()}


def cluster_scores(
    fit: LabelledVectors, held_out: Mapping[str, LabelledVectors], n_seeds: int
) -> dict[str, ClusteringScore]:
    """`seed_scores` as means and deviations over seeds, with intervals over artists."""
    return {
        name: _score(tables, held_out=name != FIT)
        for name, tables in _tables(fit, held_out, n_seeds).items()
    }


def _tables(
    fit: LabelledVectors, held_out: Mapping[str, LabelledVectors], n_seeds: int
) -> dict[str, IntArray]:
    """How many adapters of each artist are in each cluster: (n_seeds, n_artists, n_clusters)."""
    clusters = k_means(fit.vectors, len(np.unique(fit.artists)), range(n_seeds))
    tables = {FIT: contingencies(encode(fit.artists), clusters.labels)}
    for name, part in held_out.items():
        if len(part):
            labels = nearest_centroids(part.vectors, clusters.centroids)
            tables[name] = contingencies(encode(part.artists), labels)
    return tables


def _agreement(tables: IntArray) -> SeedScores:
    return SeedScores(adjusted_rand_indices(tables), normalized_mutual_informations(tables))


def _score(tables: IntArray, *, held_out: bool) -> ClusteringScore:
    scores = _agreement(tables)
    ari, nmi = Spread.of(scores.ari), Spread.of(scores.nmi)
    # The clusters are the fit adapters' own: without an artist they would be others.
    if not held_out or tables.shape[1] < FEWEST_ARTISTS:
        return ClusteringScore(ari, nmi)
    without = [each.mean(axis=0) for each in without_each_truth(tables)]
    intervals = {
        "ari": jackknife_interval(ari.mean, without[0], within=ARI_RANGE),
        "nmi": jackknife_interval(nmi.mean, without[1], within=NMI_RANGE),
    }
    return ClusteringScore(ari, nmi, intervals)
