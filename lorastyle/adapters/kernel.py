"""Inner products of adapter updates `delta = scaling * B @ A`, without forming one.

    <delta_i, delta_j> = s_i s_j tr(B_i' B_j A_j A_i') = s_i s_j sum((A_i A_j') * (B_i' B_j))

Both factors of the last product are r x r, so an out x in matrix never exists.
Unchanged by `(B M)(M^-1 A)`: adapters of any rank and initialisation compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lorastyle.errors import LayoutMismatchError

Factors = npt.NDArray[np.floating]
Gram = npt.NDArray[np.float64]

DEFAULT_MEMORY_BYTES = 2**28


def delta_gram(
    lora_A: Factors,
    lora_B: Factors,
    other_A: Factors | None = None,
    other_B: Factors | None = None,
    *,
    scaling: float | npt.ArrayLike = 1.0,
    other_scaling: float | npt.ArrayLike | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> Gram:
    """Inner products of the updates of one module, between two sets of adapters.

    Shapes: lora_A (n, r, in), lora_B (n, out, r); the others (m, r2, in) and
    (m, out, r2), the rank may differ; result (n, m), float64. Without `other_*`
    the result is the symmetric (n, n) of the set with itself. `scaling` is alpha / rank, one
    number or one an adapter. Products keep the factors' dtype, the sums over r x r
    are float64. Working memory stays near `memory_bytes`, whatever n is.
    Raises LayoutMismatchError if the sets are not of one module.
    """
    _check_module(lora_A, lora_B)
    here = there = _Stacked.of(lora_A, lora_B)
    symmetric = other_A is None or other_B is None
    if other_A is not None and other_B is not None:
        _check_module(other_A, other_B)
        _check_same_module(lora_A, lora_B, other_A, other_B)
        there = _Stacked.of(other_A, other_B)
    gram = np.empty((here.n, there.n))
    for i, j in _tiles(gram.shape, here.rank * there.rank, memory_bytes, symmetric):
        tile = _tile(here, there, i, j)
        on_diagonal = symmetric and i == j
        gram[i, j] = (tile + tile.T) / 2 if on_diagonal else tile
        if symmetric and not on_diagonal:
            gram[j, i] = tile.T
    default = scaling if symmetric else 1.0
    return _scaled(gram, scaling, default if other_scaling is None else other_scaling)


class _Stacked(NamedTuple):
    """The factors of n adapters below one another, ready for matrix products."""

    down: Factors
    """lora_A as (n r, in)."""
    up: Factors
    """lora_B, transposed, as (n r, out)."""
    rank: int

    @classmethod
    def of(cls, lora_A: Factors, lora_B: Factors) -> _Stacked:
        return cls(_flat(lora_A), _flat(np.swapaxes(lora_B, 1, 2)), lora_A.shape[1])

    @property
    def n(self) -> int:
        return len(self.down) // self.rank


def _tile(here: _Stacked, there: _Stacked, i: slice, j: slice) -> Gram:
    a = slice(i.start * here.rank, i.stop * here.rank)
    b = slice(j.start * there.rank, j.stop * there.rank)
    # On the diagonal both operands are the same memory: NumPy then calls syrk, half the work.
    products = here.down[a] @ there.down[b].T
    products *= here.up[a] @ there.up[b].T
    blocks = products.reshape(i.stop - i.start, here.rank, j.stop - j.start, there.rank)
    return np.asarray(blocks.sum(axis=(1, 3), dtype=np.float64))


def cosine_of(gram: Gram) -> Gram:
    """Normalise inner products (n, n) to cosines, with a diagonal of ones.

    An adapter whose update is zero has no direction: its row and column are 0.

    >>> cosine_of(np.array([[4.0, 3.0], [3.0, 9.0]]))
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    norms = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
    inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    cosines = gram * inverse[:, None] * inverse[None, :]
    np.fill_diagonal(cosines, np.where(norms > 0, 1.0, 0.0))
    return cosines


def _tiles(
    shape: tuple[int, int], entry_size: int, memory_bytes: int, symmetric: bool
) -> Iterator[tuple[slice, slice]]:
    """Square tiles of the result; only those on and above the diagonal if symmetric."""
    # Two r x r product matrices are alive at once, 8 bytes an entry at most.
    side = max(1, int((memory_bytes / (16 * entry_size)) ** 0.5))
    for i in range(0, shape[0], side):
        for j in range(i if symmetric else 0, shape[1], side):
            yield slice(i, min(i + side, shape[0])), slice(j, min(j + side, shape[1]))


def _flat(factors: Factors) -> Factors:
    """(n, r, width) as (n r, width)."""
    return np.ascontiguousarray(factors).reshape(-1, factors.shape[2])


def _scaled(gram: Gram, scaling: float | npt.ArrayLike, other: float | npt.ArrayLike) -> Gram:
    left = np.broadcast_to(np.asarray(scaling, np.float64), gram.shape[:1])
    right = np.broadcast_to(np.asarray(other, np.float64), gram.shape[1:])
    gram *= left[:, None]
    gram *= right[None, :]
    return gram


def _check_module(lora_A: Factors, lora_B: Factors) -> None:
    if (
        lora_A.ndim != 3
        or lora_B.ndim != 3
        or (len(lora_A), lora_A.shape[1])
        != (
            len(lora_B),
            lora_B.shape[2],
        )
    ):
        raise LayoutMismatchError(
            f"lora_A {lora_A.shape} and lora_B {lora_B.shape} do not belong together; "
            "pass (n, r, in) and (n, out, r)"
        )


def _check_same_module(
    lora_A: Factors, lora_B: Factors, other_A: Factors, other_B: Factors
) -> None:
    here, there = (lora_B.shape[1], lora_A.shape[2]), (other_B.shape[1], other_A.shape[2])
    if here != there:
        raise LayoutMismatchError(
            f"updates of shape {here} and {there} are of different modules; "
            "compare adapters of one base model, module by module"
        )
