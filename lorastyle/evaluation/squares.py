"""Squared distances as one matrix product, with a bound of their rounding error.

    |x - c|² = [-2c, |c|², 1] · [x, 1, |x|²]

A product is several times faster than differences, and loses digits where vectors are long and
close together. So whatever is decided by it is decided with a margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lorastyle.evaluation.labelled import FloatArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
SingleArray = NDArray[np.float32]


@dataclass(frozen=True)
class Points:
    """Vectors (n, k), from which distances are measured, about an origin (k,)."""

    vectors: FloatArray
    origin: FloatArray

    @cached_property
    def centred(self) -> FloatArray:
        """The vectors less the origin, (n, k)."""
        return np.asarray(self.vectors - self.origin)

    @cached_property
    def norms(self) -> FloatArray:
        """Their squared lengths, (n,)."""
        return np.asarray(np.einsum("ij,ij->i", self.centred, self.centred))

    @cached_property
    def right(self) -> FloatArray:
        """The right factor of squared distances, (k + 2, n)."""
        return np.vstack([self.centred.T, np.ones_like(self.norms), self.norms])

    @cached_property
    def right_single(self) -> SingleArray:
        """The same in single precision."""
        return self.right.astype(np.float32)

    @cached_property
    def squares(self) -> FloatArray:
        """Squared distances between all points, (n, n)."""
        squares: FloatArray = left_factor(self.centred) @ self.right
        np.fill_diagonal(squares, 0)
        return squares

    @cached_property
    def rounding(self) -> float:
        """Bound of the error of a squared distance to a mean of the points."""
        return float(2 * self._unit_error(np.float64) * self.norms.max(initial=0))

    @property
    def rounding_of_sums(self) -> float:
        """What summing the squares from one point to all adds to the error of each, at most."""
        return float(4 * len(self.norms) * np.finfo(np.float64).eps * self.norms.max(initial=0))

    @cached_property
    def rounding_single(self) -> SingleArray:
        """The same in single precision, for each point (n,)."""
        bound = self._unit_error(np.float32) * (self.norms + self.norms.max(initial=0))
        return np.asarray(bound, np.float32)

    def rounding_to(self, centroids: FloatArray) -> float:
        """The same to any centroids (m, k), less the origin."""
        longest = float(np.einsum("ij,ij->i", centroids, centroids).max(initial=0))
        return self._unit_error(np.float64) * (float(self.norms.max(initial=0)) + longest)

    def _unit_error(self, dtype: Any) -> float:
        # A product of k + 2 terms whose factors were rounded before, in any order of summation,
        # whose magnitudes add up to at most twice the sum of both squared lengths; and room for a
        # comparison. Four times as much in double precision, to cover what scikit-learn loses too.
        width = self.vectors.shape[1] + 6
        return float(width * np.finfo(dtype).eps) * (4 if dtype is np.float64 else 1)


def left_factor(centroids: FloatArray) -> FloatArray:
    """The left factor of squared distances of centroids (m, k) less the origin: (m, k + 2)."""
    norms = np.einsum("ij,ij->i", centroids, centroids)
    return np.column_stack([-2 * centroids, norms, np.ones_like(norms)])


def least(squares: NDArray[Any], rounding: float | SingleArray) -> tuple[IntArray, BoolArray]:
    """The cluster with the least square, right where only one is near; and all that are near.

    Shapes: squares (..., n_clusters, n) with an error of `rounding`, labels (..., n), near as
    squares.
    """
    near = squares <= squares.min(axis=-2, keepdims=True) + 2 * rounding
    n_clusters = squares.shape[-2]
    numbers = np.arange(n_clusters, dtype=np.min_scalar_type(n_clusters - 1))
    labels = np.einsum("k,...kn->...n", numbers, near.view(np.uint8))
    return labels.astype(np.int64), near


def nearest_centroids(vectors: FloatArray, centroids: FloatArray) -> IntArray:
    """The nearest centroid of each vector, the first among equals, for each seed.

    Shapes: vectors (m, k), centroids (n_seeds, n_clusters, k), result (n_seeds, m).
    """
    points = Points(np.asarray(vectors, np.float64), centroids.mean(axis=(0, 1)))
    flat = (centroids - points.origin).reshape(-1, centroids.shape[-1])
    squares = (left_factor(flat) @ points.right).reshape(*centroids.shape[:2], len(vectors))
    labels, near = least(squares, points.rounding_to(flat))
    close = np.add.reduce(near, axis=1, dtype=np.int64) > 1
    for seed in np.flatnonzero(close.any(axis=1)):
        exact = cdist(vectors[close[seed]], centroids[seed], "sqeuclidean")
        labels[seed, close[seed]] = exact.argmin(axis=1)
    return labels
