"""Inner products of adapter updates `delta = scaling * B @ A`, without forming one.

    <delta_i, delta_j> = s_i s_j tr(B_i' B_j A_j A_i') = s_i s_j sum((A_i A_j') * (B_i' B_j))

Both factors of the last product are r x r, so an out x in matrix never exists.
Unchanged by `(B M)(M^-1 A)`: adapters of any rank and initialisation compare.

The factors of many adapters are stacked below one another, whatever their ranks, and
multiplied in tiles whose products stay in a core's cache until they are summed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lorastyle.errors import LayoutMismatchError

if TYPE_CHECKING:
    import torch

Factors = npt.NDArray[np.floating]
Gram = npt.NDArray[np.float64]

DEFAULT_MEMORY_BYTES = 2**28
CACHE_ROWS = 512
"""Rows of a tile's products on the CPU: two of 1 MiB in float32 stay in a core's own cache."""
DEVICE_ROWS = 4096
"""The same on a GPU, where a tile must be large enough to fill it."""


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
    number or one an adapter. Products keep the factors' dtype, and so do sums over one
    adapter's r rows; all further sums are float64. Working memory beyond a copy of
    the factors stays below `memory_bytes`, whatever n is.
    Raises LayoutMismatchError if the sets are not of one module.
    """
    here = FactorStack.of_arrays(lora_A, lora_B)
    if other_A is None or other_B is None:
        gram = stack_products(here, memory_bytes=memory_bytes)
        return _scaled(gram, scaling, scaling if other_scaling is None else other_scaling)
    there = FactorStack.of_arrays(other_A, other_B)
    gram = stack_products(here, there, memory_bytes=memory_bytes)
    return _scaled(gram, scaling, 1.0 if other_scaling is None else other_scaling)


@dataclass(frozen=True, eq=False)
class FactorStack:
    """One module's factors of n adapters, below one another: row k of both is one rank."""

    down: Factors
    """lora_A of each: (sum of ranks, in)."""
    up: Factors
    """lora_B of each, transposed: (sum of ranks, out)."""
    ranks: npt.NDArray[np.intp]
    """(n,), in the same order."""

    @classmethod
    def of_arrays(cls, lora_A: Factors, lora_B: Factors) -> FactorStack:
        """Adapters of one rank: (n, r, in) and (n, out, r)."""
        _check_module(lora_A, lora_B)
        ranks = np.full(len(lora_A), lora_A.shape[1])
        return cls(_flat(lora_A), _flat(np.swapaxes(lora_B, 1, 2)), ranks)

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[Factors, Factors]]) -> FactorStack:
        """Adapters of any ranks: pairs of lora_A (r, in) and lora_B (out, r)."""
        down = np.concatenate([lora_A for lora_A, _ in pairs])
        up = np.concatenate([lora_B.T for _, lora_B in pairs])
        return cls(down, up, np.array([len(lora_A) for lora_A, _ in pairs]))

    def __len__(self) -> int:
        return len(self.ranks)

    @cached_property
    def starts(self) -> npt.NDArray[np.intp]:
        """The first row of each adapter, and the number of rows: (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.ranks)])

    @property
    def module_shape(self) -> tuple[int, int]:
        """Of the update: (out, in)."""
        return self.up.shape[1], self.down.shape[1]

    def part(self, adapters: slice) -> FactorStack:
        """Some neighbours, without copying."""
        rows = slice(self.starts[adapters.start], self.starts[adapters.stop])
        return FactorStack(self.down[rows], self.up[rows], self.ranks[adapters])

    def parts(self, n_rows: int) -> Iterator[slice]:
        """Neighbours that have `n_rows` rows together at most; one adapter at least."""
        start = 0
        while start < len(self):
            fitting = np.searchsorted(self.starts, self.starts[start] + n_rows, side="right") - 1
            stop = max(start + 1, int(fitting))
            yield slice(start, stop)
            start = stop


def stack_products(
    here: FactorStack,
    there: FactorStack | None = None,
    *,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    device: str = "cpu",
) -> Gram:
    """Inner products (n, m) of `lora_B @ lora_A` between two stacks of one module.

    Without `there`, the symmetric (n, n). Scalings are the caller's. `device` is
    `cpu` for NumPy, or one of torch's, as in `cuda` or `cuda:1`.
    Raises LayoutMismatchError if the stacks are not of one module.
    """
    symmetric = there is None
    there = here if there is None else there
    _check_same_module(here, there)
    # Two r x r product matrices are alive at once.
    fitting = int((memory_bytes / (2 * here.down.itemsize)) ** 0.5)
    if device == "cpu":
        tiles: _NumpyTiles | _TorchTiles = _NumpyTiles(here, there)
        n_rows = min(CACHE_ROWS, fitting)
    else:
        tiles, n_rows = _TorchTiles(here, there, device), min(DEVICE_ROWS, fitting)
    gram = np.empty((len(here), len(there)))
    for i in here.parts(n_rows):
        for j in there.parts(n_rows):
            if symmetric and j.start < i.start:
                continue
            tile = tiles.products(i, j)
            on_diagonal = symmetric and i == j
            gram[i, j] = (tile + tile.T) / 2 if on_diagonal else tile
            if symmetric and not on_diagonal:
                gram[j, i] = tile.T
    return gram


class _NumpyTiles:
    """Tiles of the result on the CPU."""

    def __init__(self, here: FactorStack, there: FactorStack) -> None:
        self._here, self._there = here, there
        self._spare: list[Factors] = []

    def products(self, i: slice, j: slice) -> Gram:
        left, right = self._here.part(i), self._there.part(j)
        shape = (len(left.down), len(right.down))
        # On the diagonal both operands are the same memory: NumPy then calls syrk, half the work.
        products, others = self._buffers(shape, left.down.dtype)
        np.matmul(left.down, right.down.T, out=products)
        np.matmul(left.up, right.up.T, out=others)
        products *= others
        rows = _summed(products, left.ranks)
        return np.asarray(_summed(rows.T.astype(np.float64), right.ranks).T, np.float64)

    def _buffers(self, shape: tuple[int, int], dtype: npt.DTypeLike) -> list[Factors]:
        """Two matrices, the same memory for every tile: fresh pages cost as much as the sums."""
        size = shape[0] * shape[1]
        if not self._spare or len(self._spare[0]) < size:
            self._spare = [np.empty(size, dtype) for _ in range(2)]
        return [spare[:size].reshape(shape) for spare in self._spare]


def _summed(products: Factors, ranks: npt.NDArray[np.intp]) -> Factors:
    """Sums over the rows of each adapter: (rows, w) to (n, w)."""
    rank = int(ranks[0])
    if (ranks == rank).all():  # several times faster than a ragged sum
        return np.asarray(products.reshape(len(ranks), rank, -1).sum(axis=1))
    starts = np.cumsum(ranks) - ranks
    return np.asarray(np.add.reduceat(products, starts, axis=0))


class _TorchTiles:
    """Tiles of the result on a torch device; stacks go there once, only sums come back."""

    def __init__(self, here: FactorStack, there: FactorStack, device: str) -> None:
        import torch

        self._torch = torch
        self._device = device
        self._here, self._there = here, there
        self._left = self._moved(here)
        self._right = self._left if there is here else self._moved(there)

    def products(self, i: slice, j: slice) -> Gram:
        rows = slice(self._here.starts[i.start], self._here.starts[i.stop])
        columns = slice(self._there.starts[j.start], self._there.starts[j.stop])
        products = self._left[0][rows] @ self._right[0][columns].T
        products *= self._left[1][rows] @ self._right[1][columns].T
        sums = self._summed(products, self._here.ranks[i])
        sums = self._summed(sums.T.double(), self._there.ranks[j]).T
        return np.asarray(sums.cpu().numpy())

    def _summed(self, products: torch.Tensor, ranks: npt.NDArray[np.intp]) -> torch.Tensor:
        rank = int(ranks[0])
        if (ranks == rank).all():
            return products.reshape(len(ranks), rank, -1).sum(dim=1)
        # A product with ones and zeros: sums by index come in no fixed order on a GPU.
        owner = np.repeat(np.arange(len(ranks)), ranks)
        ones = self._torch.from_numpy(owner[None, :] == np.arange(len(ranks))[:, None])
        return ones.to(self._device, products.dtype) @ products

    def _moved(self, stack: FactorStack) -> tuple[torch.Tensor, torch.Tensor]:
        down, up = (
            self._torch.from_numpy(np.ascontiguousarray(factor)).to(self._device)
            for factor in (stack.down, stack.up)
        )
        # Where somebody has turned TF32 on, float32 products keep 10 bits.
        coarse = self._torch.backends.cuda.matmul.allow_tf32
        return (down.double(), up.double()) if coarse else (down, up)


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


def _flat(factors: Factors) -> Factors:
    """(n, r, width) as (n r, width)."""
    return np.ascontiguousarray(factors).reshape(-1, factors.shape[2])


def _scaled(gram: Gram, scaling: float | npt.ArrayLike, other: float | npt.ArrayLike) -> Gram:
    left = np.broadcast_to(np.asarray(scaling, np.float64), gram.shape[:1])
    right = np.broadcast_to(np.asarray(other, np.float64), gram.shape[1:])
    # One product of both: scaled in turn, (i, j) and (j, i) would round differently.
    gram *= np.outer(left, right)
    return gram


def _check_module(lora_A: Factors, lora_B: Factors) -> None:
    belong = lora_A.ndim == lora_B.ndim == 3
    if not belong or lora_A.shape[:2] != (len(lora_B), lora_B.shape[2]):
        raise LayoutMismatchError(
            f"lora_A {lora_A.shape} and lora_B {lora_B.shape} do not belong together; "
            "pass (n, r, in) and (n, out, r)"
        )


def _check_same_module(here: FactorStack, there: FactorStack) -> None:
    if here.module_shape != there.module_shape:
        raise LayoutMismatchError(
            f"updates of shape {here.module_shape} and {there.module_shape} are of different "
            "modules; compare adapters of one base model, module by module"
        )
