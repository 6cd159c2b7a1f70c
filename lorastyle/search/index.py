"""`StyleIndex`: nearest neighbours in a style space, by brute force.

A style space has some tens of components, so comparing a query with every adapter is one
matrix product: a million adapters are a few hundred megabytes. Nothing is approximate
but float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

SLACK = 8
"""Candidates beyond top_k that are measured again exactly: float32 may swap near ties."""
ROWS_AT_ONCE = 65_536
"""Rows of one product: its result stays in the processor's cache."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest adapters of one query, nearest first."""

    positions: Positions
    """(top_k,), rows of the index."""
    distances: npt.NDArray[np.float64]
    """(top_k,), Euclidean."""


class StyleIndex:
    """n adapters by their scores on k components; ready for queries when made.

    Shapes: scores (n, k), held as float32.
    """

    def __init__(self, scores: npt.ArrayLike) -> None:
        self.scores: Scores = np.ascontiguousarray(scores, np.float32)
        # |x - q|^2 - |q|^2 = |x|^2 - 2 x.q: half of the squares once, one product a query.
        self._half_squares = np.einsum("ij,ij->i", self.scores, self.scores) / 2

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def n_components(self) -> int:
        return int(self.scores.shape[1])

    def nearest(self, query: npt.ArrayLike, top_k: int) -> Neighbours:
        """The `top_k` nearest to a query (k,), or all there are; equals by position."""
        wanted = min(top_k, len(self))
        point = np.asarray(query, np.float32).reshape(-1)
        distances = self._half_squares.copy()
        for first in range(0, len(self), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            distances[part] -= self.scores[part] @ point
        return self._exact(
            np.asarray(query, np.float64), _smallest(distances, wanted + SLACK), wanted
        )

    def spacing(self, sample: int = 1000) -> float:
        """The median distance of an adapter to its nearest neighbour, over a sample; 0 for one.

        What "near" means here.
        """
        if len(self) < 2:
            return 0.0
        chosen = np.unique(np.linspace(0, len(self) - 1, min(sample, len(self))).astype(np.int64))
        nearest = [self.nearest(self.scores[row], 2).distances[1] for row in chosen]
        return float(np.median(nearest))

    def _exact(self, query: npt.NDArray[np.float64], among: Positions, wanted: int) -> Neighbours:
        differences = self.scores[among].astype(np.float64) - query
        distances = np.sqrt(np.einsum("ij,ij->i", differences, differences))
        order = np.lexsort((among, distances))[:wanted]
        return Neighbours(among[order], distances[order])


def _smallest(values: npt.NDArray[np.float32], count: int) -> Positions:
    if count >= len(values):
        return np.arange(len(values))
    return np.asarray(np.argpartition(values, count)[:count])
