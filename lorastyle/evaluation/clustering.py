"""Clustering: do the clusters of the vectors match the artists? Paper, section 4.3.

K-means, with as many clusters as artists, is fitted on the fit adapters. Held-out adapters are
*assigned* to those centroids, not clustered among themselves: a held-out set that moved as a
whole would cluster well by itself and yet be of no use beside the database. This is also the only
reading under which the paper's uncalibrated scores (ARI 16.7 %, NMI 82 %) come out so low.

Each seed is one k-means++ start (`n_init=1`, the default of scikit-learn since 1.4), which is why
the paper and we report a spread over seeds.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lorastyle.errors import TooFewAdaptersError
from lorastyle.evaluation.agreement import (
    adjusted_rand_index,
    encode,
    normalized_mutual_information,
)
from lorastyle.evaluation.labelled import FloatArray, LabelledVectors

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
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if len(vectors) < n_clusters:
        raise TooFewAdaptersError(
            f"{len(vectors)} adapters cannot make {n_clusters} clusters; "
            f"train at least one adapter per artist"
        )
    with warnings.catch_warnings():
        # Coinciding vectors leave clusters empty; that shows in the score.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(n_clusters, n_init=1, random_state=seed).fit(vectors)
    return np.asarray(means.labels_, np.int64), np.asarray(means.cluster_centers_)


def assign(vectors: FloatArray, centroids: FloatArray) -> IntArray:
    """The nearest centroid of each vector, the first among equals.

    >>> assign(np.array([[0.1], [0.9]]), np.array([[0.0], [1.0]]))
    array([0, 1])
    """
    distance: FloatArray = cdist(vectors, centroids, "sqeuclidean")
    return np.asarray(distance.argmin(axis=1), dtype=np.int64)


def seed_scores(
    fit: LabelledVectors, held_out: Mapping[str, LabelledVectors], n_seeds: int
) -> dict[str, SeedScores]:
    """Scores of the fit set (under the name `train`) and of every held-out set, a value a seed.

    All sets of one seed are judged by the same centroids. Empty sets are left out.
    """
    n_clusters = len(np.unique(fit.artists))
    present = {name: part for name, part in held_out.items() if len(part)}
    truths = {FIT: encode(fit.artists)} | {
        name: encode(part.artists) for name, part in present.items()
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in truths}
    for seed in range(n_seeds):
        labels, centroids = fit_centroids(fit.vectors, n_clusters, seed)
        found[FIT].append(_agreement(truths[FIT], labels))
        for name, part in present.items():
            found[name].append(_agreement(truths[name], assign(part.vectors, centroids)))
    return {
        name: SeedScores(*(np.array(values) for values in zip(*pairs, strict=True)))
        for name, pairs in found.items()
    }


def cluster_scores(
    fit: LabelledVectors, held_out: Mapping[str, LabelledVectors], n_seeds: int
) -> dict[str, ClusteringScore]:
    """`seed_scores` as means and deviations over seeds."""
    return {
        name: ClusteringScore(Spread.of(scores.ari), Spread.of(scores.nmi))
        for name, scores in seed_scores(fit, held_out, n_seeds).items()
    }


def _agreement(truth: IntArray, labels: IntArray) -> tuple[float, float]:
    return adjusted_rand_index(truth, labels), normalized_mutual_information(truth, labels)
