"""Similarity of updates whatever their initial `lora_A`: cosines against what they could be.

An update `dW = scaling * lora_B @ lora_A` lives in the row space of its `lora_A`. Two adapters
that began with the same `lora_A` still share most of that space, two of different seeds much
less, so the same two styles have a larger cosine in the first case than in the second,
and a database of mixed origin splits by origin. Per module, with P_i the projection onto the row
space of dW_i,

    cosine      c = <dW_i, dW_j> / (|dW_i| |dW_j|)
    attainable  s = min(|dW_i P_j| / |dW_i|, |dW_j P_i| / |dW_j|)
    weight      w = sqrt(|dW_i| |dW_j|)

|dW_i P_j| / |dW_i| is the largest cosine with dW_i that *any* update in the row space of j can
have: so |c| <= s <= 1, and s = 1 where the row spaces are the same. The similarity is

    aligned = (sum over modules of w c) / (sum over modules of w s),     in [-1, 1].

Both sums add up over modules, so any group of modules has its similarity. Only products of dW
are used: gauge `(B M, M^-1 A)`, rank, padding and the adapter's overall strength do not
matter. The derivation, what else was tried and what it scored: docs/mixed-origins.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.kernel import DEFAULT_MEMORY_BYTES, Factors, FactorStack, Gram
from lorastyle.errors import LayoutMismatchError

TOLERANCE = 1e-4
"""Directions of an update below this share of its largest singular value are rounding."""
DEPENDENT = 1e-6
"""Rows of lora_A whose own part, besides the other rows, is below this share are dependent."""
TILE_ROWS = 512
"""Rows (adapters times rank) of a tile's products: each 1 MiB in float32."""


class AlignedSums(NamedTuple):
    """What adds up over modules, each (n, m) float64; `aligned_similarity` divides them."""

    cosine: Gram
    """`w c`; 0 where one of the updates is zero."""
    attainable: Gram
    """`w s`; 0 where one of the updates is zero, or their row spaces have nothing in common."""


def aligned_sums(
    lora_A: Factors,
    lora_B: Factors,
    other_A: Factors | None = None,
    other_B: Factors | None = None,
    *,
    scaling: float | npt.ArrayLike = 1.0,
    other_scaling: float | npt.ArrayLike = 1.0,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> AlignedSums:
    """The terms of one module, between two sets of adapters.

    Shapes: lora_A (n, r, in), lora_B (n, out, r); the others (m, r2, in) and (m, out, r2), the
    rank may differ. Without `other_*` the set with itself: (n, n), symmetric. `scaling` is
    alpha / rank, one number or one an adapter; what is the same in all modules of an adapter
    cancels. Raises LayoutMismatchError if the sets are not of one module.
    """
    here = AlignedStack.of(FactorStack.of_arrays(lora_A, lora_B), scaling)
    if other_A is None or other_B is None:
        return stack_sums(here, memory_bytes=memory_bytes)
    there = AlignedStack.of(FactorStack.of_arrays(other_A, other_B), other_scaling)
    return stack_sums(here, there, memory_bytes=memory_bytes)


def aligned_similarity(sums: AlignedSums) -> Gram:
    """Similarities (n, m) in [-1, 1] from the sums over any modules.

    A module that one of two adapters does not change counts in neither sum: they are compared
    on what both change, and 0 where that is nothing. Of an adapter with itself 1.

    >>> aligned_similarity(AlignedSums(np.array([[0.1, 0.0]]), np.array([[0.4, 0.0]])))
    array([[0.25, 0.  ]])
    """
    cosine, attainable = sums
    similarity = np.divide(cosine, attainable, out=np.zeros_like(cosine), where=attainable > 0)
    return np.asarray(np.clip(similarity, -1.0, 1.0))


@dataclass(frozen=True, eq=False)
class AlignedStack:
    """One module's updates of n adapters by their singular vectors.

    Per adapter dW / |dW| = U S V': `factors.down` holds the rows of V', `factors.up` those of
    (U S)', `energies` (rows,) the squares of S, which sum to 1. Rows that are rounding, or of
    a zero update, are zero in all three. `norms` (n,) are |dW|, with the scaling.
    """

    factors: FactorStack
    energies: Factors
    norms: Gram

    @classmethod
    def of(cls, stack: FactorStack, scaling: float | npt.ArrayLike = 1.0) -> AlignedStack:
        """In float64 inside, a class of ranks at a time; kept in the factors' dtype."""
        scales = np.broadcast_to(np.asarray(scaling, np.float64), len(stack))
        down, up = np.zeros_like(stack.down), np.zeros_like(stack.up)
        energies, norms = np.zeros(len(down), down.dtype), np.zeros(len(stack))
        for rank in np.unique(stack.ranks):
            chosen = stack.ranks == rank
            rows = stack.starts[:-1][chosen][:, None] + np.arange(rank)
            right, left, energies[rows], norms[chosen] = _singular(stack.down[rows], stack.up[rows])
            down[rows], up[rows] = right, left * np.sign(scales[chosen])[:, None, None]
        return cls(FactorStack(down, up, stack.ranks), energies, norms * np.abs(scales))

    def __len__(self) -> int:
        return len(self.norms)

    def part(self, adapters: slice) -> AlignedStack:
        """Some neighbours, without copying."""
        starts = self.factors.starts
        rows = slice(starts[adapters.start], starts[adapters.stop])
        return AlignedStack(self.factors.part(adapters), self.energies[rows], self.norms[adapters])


def stack_sums(
    here: AlignedStack,
    there: AlignedStack | None = None,
    *,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> AlignedSums:
    """`aligned_sums` of adapters of any ranks; without `there`, of the stack with itself.

    Cost: the two products of the delta kernel, and three sums. Working memory beyond the stacks
    stays below `memory_bytes`. Raises LayoutMismatchError if the stacks are not of one module.
    """
    symmetric = there is None
    there = here if there is None else there
    _check_same_module(here, there)
    sums = AlignedSums(*np.zeros((2, len(here), len(there))))
    # Two matrices of products are alive at once.
    n_rows = min(TILE_ROWS, int((memory_bytes / (2 * here.energies.itemsize)) ** 0.5))
    for i, j in _tiles(here, there, n_rows, symmetric):
        tile = _tile(here.part(i), there.part(j))
        for total, found in zip(sums, tile, strict=True):
            total[i, j] = found
            if symmetric:
                total[j, i] = (found + found.T) / 2 if i == j else found.T
    if symmetric:
        for total in sums:
            np.fill_diagonal(total, here.norms)
    return sums


def _tile(here: AlignedStack, there: AlignedStack) -> AlignedSums:
    """(n, m), weighted."""
    across = here.factors.down @ there.factors.down.T
    spare = here.factors.up @ there.factors.up.T
    spare *= across
    cosine = _block_sums(spare, here, there)
    across *= across
    np.multiply(across, here.energies[:, None], out=spare)
    ours = _block_sums(spare, here, there)
    np.multiply(across, there.energies[None, :], out=spare)
    theirs = _block_sums(spare, here, there)
    weights = np.sqrt(np.outer(here.norms, there.norms))
    return AlignedSums(weights * cosine, weights * np.sqrt(np.minimum(ours, theirs)))


def _block_sums(products: Factors, here: AlignedStack, there: AlignedStack) -> Gram:
    """Sums over the rows of each pair of adapters, float64."""
    left, right = here.factors.ranks, there.factors.ranks
    if (left == left[0]).all() and (right == right[0]).all():
        # One axis, then the other: both at once takes three times as long.
        rows = products.reshape(len(left), left[0], -1).sum(axis=1, dtype=np.float64)
        return np.asarray(rows.reshape(len(left), len(right), -1).sum(axis=2))
    rows = np.add.reduceat(products, here.factors.starts[:-1], axis=0, dtype=np.float64)
    return np.asarray(np.add.reduceat(rows, there.factors.starts[:-1], axis=1))


def _tiles(
    here: AlignedStack, there: AlignedStack, n_rows: int, symmetric: bool
) -> Iterator[tuple[slice, slice]]:
    """Parts of both; of a symmetric result those on and above the diagonal."""
    for i in here.factors.parts(n_rows):
        for j in there.factors.parts(n_rows):
            if not (symmetric and j.start < i.start):
                yield i, j


def _singular(down: Factors, up: Factors) -> tuple[Gram, Gram, Gram, Gram]:
    """V' (n, r, in), (U S)' (n, r, out), S^2 (n, r) of updates of unit norm; their norms (n,).

    Shapes: down (n, r, in), up (n, r, out). Nothing larger than r x r is decomposed.
    """
    rows, turn = _orthonormal(down.astype(np.float64))
    # dW = up' down = (turn' up)' rows: what is left has the singular values of dW.
    left = np.swapaxes(turn, 1, 2) @ up.astype(np.float64)
    squares, vectors = np.linalg.eigh(left @ np.swapaxes(left, 1, 2))
    real = (squares > TOLERANCE**2 * squares[:, -1:]) & (squares > 0)
    norms = np.sqrt(np.where(real, squares, 0.0).sum(axis=1))
    inverse = _inverse(norms)
    chosen = np.swapaxes(vectors, 1, 2) * real[:, :, None]
    energies = np.where(real, squares, 0.0) * inverse[:, None] ** 2
    return chosen @ rows, chosen @ left * inverse[:, None, None], energies, norms


def _orthonormal(down: Gram) -> tuple[Gram, Gram]:
    """Orthonormal rows Q (n, r, in) and T (n, r, r) with down = T Q; zero where rows depend."""
    squares, vectors = np.linalg.eigh(down @ np.swapaxes(down, 1, 2))
    real = (squares > DEPENDENT**2 * squares[:, -1:]) & (squares > 0)
    roots = np.sqrt(np.where(real, squares, 0.0))
    rows = (np.swapaxes(vectors, 1, 2) * _inverse(roots)[:, :, None]) @ down
    return rows, vectors * roots[:, None, :]


def _inverse(values: Gram) -> Gram:
    """1 / value, and 0 for 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)


def _check_same_module(here: AlignedStack, there: AlignedStack) -> None:
    ours, theirs = here.factors.module_shape, there.factors.module_shape
    if ours != theirs:
        raise LayoutMismatchError(
            f"updates of shape {ours} and {theirs} are of different modules; "
            "compare adapters of one base model, module by module"
        )
