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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorastyle.evaluation.agreement import (
    adjusted_rand_indices,
    contingencies,
    encode,
    normalized_mutual_informations,
)
from lorastyle.evaluation.kmeans import k_means
from lorastyle.evaluation.labelled import FloatArray, LabelledVectors
from lorastyle.evaluation.squares import nearest_centroids

IntArray = NDArray[np.int64]
FIT = "train"
"""Name of the fit set among the results."""


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
    """Agreement of clusters with artists, in fractions of one."""

    ari: Spread
    nmi: Spread

    def to_dict(self) -> dict[str, dict[str, float]]:
        return {"ari": self.ari.to_dict(), "nmi": self.nmi.to_dict()}


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
    clusters = k_means(fit.vectors, len(np.unique(fit.artists)), range(n_seeds))
    scores = {FIT: _agreement(fit.artists, clusters.labels)}
    for name, part in held_out.items():
        if len(part):
            labels = nearest_centroids(part.vectors, clusters.centroids)
            scores[name] = _agreement(part.artists, labels)
    return scores


def cluster_scores(
    fit: LabelledVectors, held_out: Mapping[str, LabelledVectors], n_seeds: int
) -> dict[str, ClusteringScore]:
    """`seed_scores` as means and deviations over seeds."""
    return {
        name: ClusteringScore(Spread.of(scores.ari), Spread.of(scores.nmi))
        for name, scores in seed_scores(fit, held_out, n_seeds).items()
    }


def _agreement(artists: NDArray[np.str_], labels: IntArray) -> SeedScores:
    tables = contingencies(encode(artists), labels)
    return SeedScores(adjusted_rand_indices(tables), normalized_mutual_informations(tables))
