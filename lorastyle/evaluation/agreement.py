"""How well two labellings of the same items agree: ARI and NMI.

Written out, rather than called from scikit-learn, because a sweep scores tens of thousands of
small labellings and the library's input checks cost a hundred times the arithmetic. The tests
hold both functions to scikit-learn's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]


def encode(labels: ArrayLike) -> IntArray:
    """Labels of any kind as integers 0, 1, ... in sorted order.

    >>> encode(["monet", "degas", "monet"])
    array([1, 0, 1])
    """
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)


def contingency(truth: IntArray, found: IntArray) -> NDArray[np.float64]:
    """How many items have each pair of labels, shape (n_truth, n_found).

    Labels are integers from 0; labels that do not occur give empty rows or columns.
    """
    if truth.shape != found.shape or truth.ndim != 1:
        raise ValueError(f"labellings of shapes {truth.shape} and {found.shape} cannot be compared")
    if truth.size == 0:
        raise ValueError("two labellings of nothing cannot be compared")
    n_truth, n_found = int(truth.max()) + 1, int(found.max()) + 1
    flat = np.bincount(truth * n_found + found, minlength=n_truth * n_found)
    return flat.reshape(n_truth, n_found).astype(np.float64)


def adjusted_rand_index(truth: IntArray, found: IntArray) -> float:
    """Share of item pairs on which both labellings agree, corrected for chance.

    1 for equal partitions, 0 on average for random ones; it can be negative.
    Source: Hubert and Arabie 1985, "Comparing partitions".

    >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
    1.0
    """
    table = contingency(truth, found)
    together = _pairs(table).sum()
    pairs_truth, pairs_found = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    all_pairs = _pairs(np.array(float(truth.size)))
    if all_pairs == 0:
        return 1.0
    expected = pairs_truth * pairs_found / all_pairs
    largest = (pairs_truth + pairs_found) / 2
    # Both put everything together, or everything apart: they are the same partition.
    if largest == expected:
        return 1.0
    return float((together - expected) / (largest - expected))


def normalized_mutual_information(truth: IntArray, found: IntArray) -> float:
    """Mutual information over the arithmetic mean of the entropies, in [0, 1].

    >>> normalized_mutual_information(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    0.0
    """
    joint = contingency(truth, found) / truth.size
    of_truth, of_found = joint.sum(axis=1), joint.sum(axis=0)
    entropies = _entropy(of_truth) + _entropy(of_found)
    # Two labellings with one label each are the same partition.
    if entropies == 0:
        return 1.0
    shared = entropies - _entropy(joint.ravel())
    return float(np.clip(2 * shared / entropies, 0.0, 1.0))


def _pairs(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts * (counts - 1) / 2


def _entropy(shares: NDArray[np.float64]) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())
