"""How well two labellings of the same items agree: ARI and NMI.

Written out, rather than called from scikit-learn, because a sweep scores tens of thousands of
small labellings and the library's input checks cost a hundred times the arithmetic. The plural
forms take the labellings of all k-means seeds at once. The tests hold them to scikit-learn's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

ARI_RANGE = (-0.5, 1.0)
NMI_RANGE = (0.0, 1.0)
"""The smallest and the largest value there is. Two against two, crosswise, have an ARI of -0.5,
and no two labellings a smaller one (Chacon and Rastrojo 2023, "Minimum adjusted Rand index for two
clusterings of a given size")."""

ROUNDING = 1e-12
"""Sums of entropies below it are zero."""


def encode(labels: ArrayLike) -> IntArray:
    """Labels of any kind as integers 0, 1, ... in sorted order.

    >>> encode(["monet", "degas", "monet"])
    array([1, 0, 1])
    """
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)


def contingencies(truth: IntArray, found: IntArray) -> IntArray:
    """How many items have each pair of labels, for each of many labellings of the same items.

    Shapes: truth (n,), found (m, n), result (m, n_truth, n_found). Labels are integers from
    0; labels that do not occur give empty rows or columns.
    """
    if found.ndim != 2 or truth.shape != found.shape[1:]:
        raise ValueError(f"labellings of shapes {truth.shape} and {found.shape} cannot be compared")
    if found.size == 0:
        raise ValueError("two labellings of nothing cannot be compared")
    shape = (len(found), int(truth.max()) + 1, int(found.max()) + 1)
    rows = np.arange(shape[0])[:, None] * shape[1] + truth
    flat = np.bincount((rows * shape[2] + found).ravel(), minlength=math.prod(shape))
    return flat.reshape(shape)


def adjusted_rand_indices(tables: IntArray) -> FloatArray:
    """`adjusted_rand_index` of each contingency table: (m, n_truth, n_found) to (m,)."""
    return _adjusted(
        _pairs(tables).sum(axis=(1, 2)),
        _pairs(tables.sum(axis=2)).sum(axis=1),
        _pairs(tables.sum(axis=1)).sum(axis=1),
        _pairs(tables.sum(axis=(1, 2))),
    )


def normalized_mutual_informations(tables: IntArray) -> FloatArray:
    """`normalized_mutual_information` of each contingency table: (m, n_truth, n_found) to (m,)."""
    n_items = int(tables[0].sum())
    # Counts are small whole numbers: one logarithm for each that can occur.
    shares = np.arange(1, n_items + 1) / n_items
    terms = np.concatenate([[0.0], -shares * np.log(shares)])
    entropies = terms[tables.sum(axis=2)].sum(axis=1) + terms[tables.sum(axis=1)].sum(axis=1)
    shared = entropies - terms[tables].sum(axis=(1, 2))
    # Two labellings with one label each are the same partition.
    same = entropies == 0
    return np.where(same, 1.0, np.clip(2 * shared / np.where(same, 1.0, entropies), 0.0, 1.0))


def without_each_truth(tables: IntArray) -> tuple[FloatArray, FloatArray]:
    """ARI and NMI again, without the items of each true label in turn.

    Shapes: tables (m, n_truth, n_found), results (m, n_truth). What was found of the other items
    stays as it was. Raises ValueError below three labels: of one no agreement can be told.
    """
    if tables.shape[1] < 3:
        raise ValueError(f"{tables.shape[1]} labels are too few to leave one out; at least 3")
    of_label, of_cluster = tables.sum(axis=2), tables.sum(axis=1)
    left = of_cluster[:, None] - tables
    n_left = of_label.sum(axis=1, keepdims=True) - of_label

    def without(each: IntArray | FloatArray) -> IntArray | FloatArray:
        return np.asarray(each.sum(axis=1, keepdims=True) - each)

    ari = _adjusted(
        without(_pairs(tables).sum(axis=2)),
        without(_pairs(of_label)),
        _pairs(left).sum(axis=2),
        _pairs(n_left),
    )
    logs = _x_log_x(int(n_left.max()) + int(of_label.max()))
    truth, found, joint = (
        np.log(n_left) - total / n_left
        for total in (
            without(logs[of_label]),
            logs[left].sum(axis=2),
            without(logs[tables].sum(axis=2)),
        )
    )
    same = truth + found <= ROUNDING
    shared = 2 * (truth + found - joint) / np.where(same, 1.0, truth + found)
    return ari, np.where(same, 1.0, np.clip(shared, 0.0, 1.0))


def adjusted_rand_index(truth: IntArray, found: IntArray) -> float:
    """Share of item pairs on which both labellings agree, corrected for chance.

    1 for equal partitions, 0 on average for random ones; it can be negative.
    Source: Hubert and Arabie 1985, "Comparing partitions".

    >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
    1.0
    """
    return float(adjusted_rand_indices(contingencies(truth, found[None]))[0])


def normalized_mutual_information(truth: IntArray, found: IntArray) -> float:
    """Mutual information over the arithmetic mean of the entropies, in [0, 1].

    >>> normalized_mutual_information(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    0.0
    """
    return float(normalized_mutual_informations(contingencies(truth, found[None]))[0])


def _adjusted(
    together: NDArray[Any], pairs_truth: NDArray[Any], pairs_found: NDArray[Any], pairs: IntArray
) -> FloatArray:
    """The index, from how many pairs are together in both, in each, and at all."""
    expected = pairs_truth * pairs_found / np.maximum(pairs, 1)
    largest = (pairs_truth + pairs_found) / 2
    # Both put everything together, or everything apart: they are the same partition.
    same = largest == expected
    return np.where(same, 1.0, (together - expected) / np.where(same, 1.0, largest - expected))


def _x_log_x(most: int) -> FloatArray:
    """Of 0, 1, ... `most`: each times its logarithm."""
    counts = np.arange(1, most + 1)
    return np.concatenate([[0.0], counts * np.log(counts)])


def _pairs(counts: IntArray) -> IntArray:
    return counts * (counts - 1) // 2
