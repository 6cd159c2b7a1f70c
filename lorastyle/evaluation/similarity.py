"""Are two embeddings of the same samples alike? Table 3 of the paper's supplement.

Each embedding is centred and rotated to its own principal components. Under the first k of both,
corresponding samples are compared by cosine, and the cosines averaged. A component has no sign of
its own, so the signs are chosen that make the mean largest.

The mean is linear in the signs: a sample's two lengths do not depend on them. So each component's
best sign is that of its own part of the sum, and no combination need be tried.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import eigh

from lorastyle.evaluation.labelled import FloatArray

PAPER_COUNTS = (*range(2, 11), *range(20, 101, 10))
"""Numbers of components in the paper's table."""
N_SHUFFLES = 10
SEED = 0


def principal_scores(vectors: FloatArray, n_components: int) -> FloatArray:
    """Scores of the vectors (n, p) on their own first components: (n, k).

    k is at most `n_components`, and no more than the vectors span. The smaller of the n x n
    and p x p products is decomposed.
    """
    centred = vectors - vectors.mean(axis=0)
    n, p = centred.shape
    most = min(n, p)
    first = max(0, most - n_components)
    square = centred @ centred.T if n <= p else centred.T @ centred
    values, columns = eigh(square, subset_by_index=[first, most - 1])
    order = np.argsort(values)[::-1]
    values, columns = values[order], columns[:, order]
    # Of squares: what is below is rounding.
    kept = values > max(values[0], 0) * max(n, p) * np.finfo(np.float64).eps
    scores = columns * np.sqrt(np.maximum(values, 0)) if n <= p else centred @ columns
    return np.asarray(scores[:, kept])


def embedding_similarity(X: FloatArray, Y: FloatArray, counts: Sequence[int]) -> FloatArray:
    """Mean cosine of corresponding samples under the first k components, for each k.

    Shapes: X (n, p), Y (n, q), a row a sample; result (len(counts),), in [0, 1]. NaN where
    either has fewer components than k. A sample at the centre of an embedding has no
    direction, and counts as 0.

    >>> turned = np.array([[0.0, 3.0], [0.0, -3.0], [1.0, 0.0], [-1.0, 0.0]])
    >>> embedding_similarity(turned, 2 * turned[:, ::-1], [1, 2]).round(3)
    array([0.5, 1. ])
    """
    if len(X) != len(Y):
        raise ValueError(f"{len(X)} and {len(Y)} samples do not correspond; pass the same samples")
    most = max(counts, default=0)
    return score_similarity(principal_scores(X, most), principal_scores(Y, most), counts)


def score_similarity(X: FloatArray, Y: FloatArray, counts: Sequence[int]) -> FloatArray:
    """`embedding_similarity` of scores on principal components, (n, k) and (n, l)."""
    found = np.full(len(counts), np.nan)
    for place, count in enumerate(counts):
        if count <= min(X.shape[1], Y.shape[1]):
            x, y = _directions(X[:, :count]), _directions(Y[:, :count])
            found[place] = np.abs((x * y).sum(axis=0)).sum() / len(x)
    return found


def shuffled_similarity(X: FloatArray, Y: FloatArray, counts: Sequence[int]) -> FloatArray:
    """The same where samples do not correspond: the mean over `N_SHUFFLES` orders of Y's.

    Choosing signs gives even unrelated embeddings a similarity above 0.
    """
    rng = np.random.default_rng(SEED)
    orders = [rng.permutation(len(Y)) for _ in range(N_SHUFFLES)]
    found = [score_similarity(X, Y[order], counts) for order in orders]
    return np.asarray(np.mean(found, axis=0))


def _directions(scores: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(scores, axis=1, keepdims=True)
    return np.asarray(scores / np.where(lengths > 0, lengths, 1.0))
