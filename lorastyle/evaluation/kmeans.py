"""k-means of many seeds at once: scikit-learn's result, in a fraction of its time.

`KMeans(n_clusters, n_init=1, random_state=seed).fit(vectors)` is repeated for tens of thousands
of small problems in a sweep. Here the seeds of one problem share what does not depend on the seed:
the squared distances between all points, among which the candidates of k-means++ are looked up. A
step of Lloyd measures again only the clusters that lost or gained a point, and in single precision
where that is enough to tell which is nearest.

Every decision (which point is drawn, which candidate is kept, which centroid is nearest, when to
stop) is made with a margin. A seed in which one could go the other way by rounding, or in which a
cluster runs empty, is given to scikit-learn itself. So labels are the same, and centroids are to
rounding.

Source: scikit-learn 1.9, `cluster/_kmeans.py` and `_k_means_lloyd.pyx`; Arthur and Vassilvitskii
2007, "k-means++: the advantages of careful seeding", in its greedy form.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csc_array

from lorastyle.errors import TooFewAdaptersError
from lorastyle.evaluation.labelled import FloatArray
from lorastyle.evaluation.squares import (
    BoolArray,
    IntArray,
    Points,
    SingleArray,
    least,
    left_factor,
)

MAX_ITERATIONS = 300
TOLERANCE = 1e-4
"""Of the mean variance: Lloyd stops where centroids moved less. Both are scikit-learn's."""
MOST_POINTS = 8_192
"""The matrix of distances takes n x n float64: 512 MiB here. More points go to scikit-learn."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Of the largest squared length; others go to scikit-learn."""


@dataclass(frozen=True)
class Clusters:
    """What k-means found with each seed.

    Shapes: labels (n_seeds, n), centroids (n_seeds, n_clusters, k).
    """

    labels: IntArray
    centroids: FloatArray


def k_means(vectors: FloatArray, n_clusters: int, seeds: Sequence[int]) -> Clusters:
    """Clusters of the vectors (n, k), a k-means++ start for each seed.

    Working memory: n x n and n_clusters x n float64. Raises TooFewAdaptersError if there
    are fewer vectors than clusters.
    """
    if len(vectors) < n_clusters:
        raise TooFewAdaptersError(
            f"{len(vectors)} adapters cannot make {n_clusters} clusters; "
            f"train at least one adapter per artist"
        )
    found = _ours(vectors, n_clusters, seeds)
    for seed in seeds:
        if seed not in found:
            found[seed] = _scikit_learns(vectors, n_clusters, seed)
    labels, centroids = zip(*(found[seed] for seed in seeds), strict=True)
    return Clusters(np.stack(labels), np.stack(centroids))


def _scikit_learns(vectors: FloatArray, n_clusters: int, seed: int) -> tuple[IntArray, FloatArray]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Coinciding vectors leave clusters empty; that shows in the score.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(n_clusters, n_init=1, random_state=seed).fit(vectors)
    return np.asarray(means.labels_, np.int64), np.asarray(means.cluster_centers_)


def _ours(
    vectors: FloatArray, n_clusters: int, seeds: Sequence[int]
) -> dict[int, tuple[IntArray, FloatArray]]:
    """Labels and centroids of the seeds in which no decision was close."""
    vectors = np.ascontiguousarray(vectors, np.float64)
    points = Points(vectors, vectors.mean(axis=0))
    # Squares must fit single precision; NaN and coinciding vectors are not ours to judge either.
    if len(vectors) > MOST_POINTS or not SMALLEST < points.norms.max() < LARGEST:
        return {}
    chosen, clear = _plus_plus(points, n_clusters, seeds)
    tolerance = float(np.var(vectors, axis=0).mean() * TOLERANCE)
    found = {}
    for seed, start in zip(np.asarray(seeds)[clear].tolist(), chosen[clear], strict=True):
        if (result := _lloyd(points, start, tolerance)) is not None:
            found[seed] = result
    return found


@lru_cache(maxsize=256)
def _draws(n_points: int, n_clusters: int, seed: int) -> tuple[int, FloatArray]:
    """The first point of k-means++, and the random numbers of each further step and trial.

    They do not depend on the points: scikit-learn draws them one step at a time from
    the same stream. Shape of the numbers: (n_clusters - 1, n_trials).
    """
    stream = np.random.RandomState(seed)
    weights = np.ones(n_points)
    first = int(stream.choice(n_points, p=weights / weights.sum()))
    n_trials = 2 + int(np.log(n_clusters))
    return first, stream.uniform(size=(n_clusters - 1, n_trials))


def _plus_plus(points: Points, n_clusters: int, seeds: Sequence[int]) -> tuple[IntArray, BoolArray]:
    """The points that k-means++ starts from, (n_seeds, n_clusters), and which seeds are clear.

    Greedy: of the candidates of a step that is kept which lowers the sum of the
    squared distances to the nearest chosen point the most.
    """
    n_points, n_seeds = len(points.vectors), len(seeds)
    drawn = [_draws(n_points, n_clusters, seed) for seed in seeds]
    numbers = np.stack([each for _, each in drawn], axis=1)
    chosen = np.empty((n_clusters, n_seeds), np.int64)
    chosen[0] = [first for first, _ in drawn]
    candidates, gaps = np.empty(numbers.shape, np.int64), np.empty(numbers.shape)
    sums = np.empty(numbers.shape)
    closest = points.squares[chosen[0]]
    left, every = closest.sum(axis=1), np.arange(n_seeds)
    nearer, ones = np.empty((*numbers.shape[1:], n_points)), np.ones(n_points)
    for step, uniform in enumerate(numbers):
        candidates[step], gaps[step] = _drawn_points(closest, uniform * left[:, None])
        np.take(points.squares, candidates[step], axis=0, out=nearer, mode="clip")
        np.minimum(nearer, closest[:, None], out=nearer)
        np.matmul(nearer, ones, out=sums[step])
        best = sums[step].argmin(axis=1)
        chosen[step + 1] = candidates[step][every, best]
        closest, left = nearer[every, best], sums[step][every, best]
    rounding = n_points * (points.rounding + points.rounding_of_sums)
    rivals = sums - sums.min(axis=2, keepdims=True) <= rounding
    rivals &= candidates != chosen[1:, :, None]
    return chosen.T, ~(rivals | (gaps <= rounding)).any(axis=(0, 2))


def _drawn_points(closest: FloatArray, wanted: FloatArray) -> tuple[IntArray, FloatArray]:
    """The first points at which the running sums of `closest` reach what is wanted.

    The second value is how far each draw was from a neighbour's. Shapes: closest
    (n_seeds, n), all others (n_seeds, n_trials).
    """
    n_seeds, n_points = closest.shape
    cumulated = np.empty((n_seeds, n_points + 1))
    cumulated[:, 0] = -np.inf
    running = np.cumsum(closest, axis=1, out=cumulated[:, 1:])
    found = np.array([sums.searchsorted(each) for sums, each in zip(running, wanted, strict=True)])
    np.minimum(found, n_points - 1, out=found)
    flat = found + (n_points + 1) * np.arange(n_seeds)[:, None]
    above, below = cumulated.take(flat + 1) - wanted, wanted - cumulated.take(flat)
    return found, np.minimum(above, below)


def _lloyd(points: Points, start: IntArray, tolerance: float) -> tuple[IntArray, FloatArray] | None:
    """Labels and centroids, from the points numbered `start`; None where a decision is close.

    It stops where no label changes, or the squared moves of the centroids sum up to no
    more than `tolerance`.
    """
    n_points, n_clusters = len(points.vectors), len(start)
    centroids, distance = points.centred[start], np.empty((n_clusters, n_points), np.float32)
    members = csc_array(
        (np.ones(n_points), np.zeros(n_points, np.int64), np.arange(n_points + 1)),
        shape=(n_clusters, n_points),
    )
    distance[:] = points.squares[start]
    labels = _nearest(points, centroids, distance)
    for _ in range(MAX_ITERATIONS):
        if labels is None or not (counts := np.bincount(labels, minlength=n_clusters)).all():
            return None
        members.indices[:] = labels
        means = (members @ points.centred) * (1 / counts)[:, None]
        shifts = means - centroids
        total = float(np.vdot(shifts, shifts))
        if abs(total - tolerance) <= 1e-9 * tolerance:
            return None
        _measure(points, means, np.flatnonzero(shifts.any(axis=1)), distance)
        centroids, before = means, labels
        labels = _nearest(points, centroids, distance)
        if labels is not None and (total <= tolerance or np.array_equal(labels, before)):
            return labels, centroids + points.origin
    return None


def _measure(
    points: Points, centroids: FloatArray, changed: IntArray, distance: SingleArray
) -> None:
    """Squared distances (n_clusters, n) again, of the clusters in `changed`."""
    if 2 * len(changed) > len(centroids):
        np.matmul(left_factor(centroids).astype(np.float32), points.right_single, out=distance)
    elif len(changed):
        distance[changed] = left_factor(centroids[changed]).astype(np.float32) @ points.right_single


def _nearest(points: Points, centroids: FloatArray, distance: SingleArray) -> IntArray | None:
    """The nearest centroid of each point; None where two are as near.

    `distance` (n_clusters, n) is single precision; where it cannot tell, double does.
    """
    labels, near = least(distance, points.rounding_single)
    if np.count_nonzero(near) == len(labels):
        return labels
    close = np.flatnonzero(np.add.reduce(near, axis=0, dtype=np.int64) > 1)
    exact = left_factor(centroids) @ points.right[:, close]
    labels[close], near = least(exact, points.rounding)
    return labels if np.count_nonzero(near) == len(close) else None
