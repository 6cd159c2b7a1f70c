"""One pass over the vectors: their Gram matrix times a few columns, never the matrix itself.

G V is the sum over column blocks X_b of X_b (X_b' V), so every block is a task of its
own, for Dask's threads or for Ray, and what comes back has n rows and few columns.
All rows of a block rarely fit one task's memory; then they are read in tiles, twice:
X_b' V must be complete before anything can be multiplied with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, Self

import dask
import numpy as np
import numpy.typing as npt

from lorastyle.embedding.blocks import origin_rows, read_origin
from lorastyle.embedding.products import compute, tree_sum
from lorastyle.errors import StageError
from lorastyle.store.vectors import AdapterVectors

Matrix = npt.NDArray[np.floating[Any]]
Columns = npt.NDArray[np.float64]
Scheduler = Callable[..., Any]

BLOCK_COLUMNS = 32_768
"""Width of a block of vectors in memory; a store's own inner chunks are as wide at most."""
SUM_COLUMNS = 256
"""Products of so many columns are added up in float32, these sums in float64.

The error of a sum grows with its length, and the error bounds with it; shorter ones
cost time."""
MAX_TASKS = 192
"""Tasks of a pass, at most: at the paper's size, one for each inner chunk."""
SHARES = 4
"""One task may take a quarter of the working memory: Dask's threads run so many at most."""
MIN_TILE = 64
"""Rows of a tile, at least: below, products are slower than they need be."""


class Vectors(Protocol):
    """What a pass needs of an (n, p) matrix: AdapterVectors, or an array in memory."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(
        self, columns: slice, rows: slice = ..., *, out: Any = ..., origin: Any = ...
    ) -> Matrix: ...

    def take(self, positions: npt.ArrayLike) -> Vectors: ...


@dataclass(frozen=True)
class InMemory:
    """An (n, p) NumPy array with the interface of AdapterVectors."""

    array: Matrix

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape[0], self.array.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def read(
        self, columns: slice, rows: slice = slice(None), *, out: Any = None, origin: Any = 0
    ) -> Matrix:
        return np.asarray(np.subtract(self.array[rows, columns], origin, out=out))

    def take(self, positions: npt.ArrayLike) -> InMemory:
        return InMemory(self.array[np.asarray(positions)])


class GramProduct(NamedTuple):
    """What one pass yields of the Gram matrix G of n vectors about an origin."""

    product: Columns
    """The Gram matrix about the mean, times the block asked for: (n, l)."""
    means: Columns
    """Mean of each row of G: (n,)."""
    total: float
    """Trace of the Gram matrix about the mean: the sum of all its eigenvalues."""


@dataclass(frozen=True)
class Tiling:
    """How a task holds a block: tiles of `n_rows` rows, the first `n_held` of them kept."""

    n_rows: int
    n_held: int
    n_places: int
    """Tiles there is room for: one more than are kept, unless the block is one tile."""

    @classmethod
    def of(
        cls, n: int, width: int, n_wanted: int, memory_gib: float, itemsize: int, n_out: int
    ) -> Self:
        """Fit the tiles of n rows into a task's memory beside what it must hold anyway.

        That is the `n_wanted` columns it multiplies with, (n, n_wanted), their products
        with the block twice, and its float64 result of `n_out` rows. Raises StageError
        where too little is left.
        """
        fixed = n_wanted * (n * itemsize + n_out * 8 + 2 * width * itemsize)
        per_row = itemsize * (width + n_wanted)
        least = min(n, MIN_TILE)
        n_rows = (int(memory_gib * 2**30) // SHARES - fixed) // per_row
        if n_rows < least:
            needed = SHARES * (fixed + least * per_row) / 2**30
            raise StageError(
                f"{memory_gib:g} GiB are too little for {n_wanted} columns of {n} adapters at "
                f"once; set memory_gib to {needed:.2g} or ask for fewer components"
            )
        if n_rows >= n:
            return cls(n, 1, 1)
        tile = max(least, n_rows // 8)
        return cls(tile, n_rows // tile - 1, n_rows // tile)


def as_vectors(vectors: Any) -> Vectors:
    """AdapterVectors as they are; anything else as a matrix in memory."""
    if isinstance(vectors, AdapterVectors):
        return vectors
    array = np.asarray(vectors)
    return InMemory(array if array.dtype.kind == "f" else array.astype(np.float64))


def gram_times(
    vectors: Vectors, block: Matrix, *, memory_gib: float, scheduler: Scheduler | None
) -> GramProduct:
    """The centred Gram matrix of vectors (n, p) times `block` (n, l): one pass.

    Float32 vectors are multiplied in float32, about an origin near them, and added up
    over every SUM_COLUMNS columns in float64. Raises StageError for too little memory.
    """
    n, n_wanted = block.shape
    ones = np.ones((n, 1))
    multiplied = np.hstack([block, ones]).astype(vectors.dtype)
    tiling = _tiling(vectors, n, n_wanted + 2, memory_gib, n)
    total = _run(block_sums, vectors, multiplied, (tiling,), scheduler)
    means, norms = total[:, n_wanted] / n, total[:, -1]
    # Centring both sides: from the right here, from the left below.
    product = total[:, :n_wanted] - np.outer(
        means, multiplied[:, :-1].sum(axis=0, dtype=np.float64)
    )
    product -= product.mean(axis=0)
    return GramProduct(product, means, float(norms.sum() - means.sum()))


def project(
    vectors: Vectors,
    others: Vectors,
    weights: Columns,
    *,
    memory_gib: float,
    scheduler: Scheduler | None,
) -> Columns:
    """Scores (m, k) of others (m, p) on weighted sums of vectors (n, p) about their mean.

    `weights` (n, k) have columns that sum to zero. One pass over both. Raises
    StageError for too little memory, ValueError for others of another length.
    """
    if others.shape[1] != vectors.shape[1]:
        raise ValueError(
            f"the others have {others.shape[1]} columns, the fit was on {vectors.shape[1]}; "
            "give the same columns of the same layout"
        )
    n, n_wanted = weights.shape
    multiplied = np.hstack([weights, np.ones((n, 1))]).astype(vectors.dtype)
    tiling = _tiling(vectors, max(n, others.shape[0]), n_wanted + 1, memory_gib, others.shape[0])
    return _run(projected, vectors, multiplied, (tiling, others), scheduler)


def block_sums(
    vectors: Vectors, multiplied: Matrix, blocks: Sequence[slice], tiling: Tiling
) -> Columns:
    """Of some column blocks about their origin, (n, l + 1): the body of a task.

    The Gram matrix times `multiplied` (n, l), then the squared norms of the rows.
    """
    total = np.zeros((len(multiplied), multiplied.shape[1] + 1))
    buffer = _buffer(vectors, blocks, tiling)
    for columns in blocks:
        tiles = Tiles(vectors, columns, _origin(vectors, columns), tiling, buffer)
        inner = tiles.transposed_times(multiplied)
        for rows, tile in tiles:
            _add_product(total[rows, :-1], tile, inner)
            total[rows, -1] += np.vecdot(tile, tile)
    return total


def _add_product(total: Columns, tile: Matrix, inner: Matrix) -> None:
    """Add the tile (m, width) times `inner` (width, l) to `total` (m, l)."""
    for start in range(0, len(inner), SUM_COLUMNS):
        columns = slice(start, start + SUM_COLUMNS)
        total += tile[:, columns] @ inner[columns]


def projected(
    vectors: Vectors, multiplied: Matrix, blocks: Sequence[slice], tiling: Tiling, others: Vectors
) -> Columns:
    """Scores (m, k) of the others' columns in some blocks: the body of a task.

    `multiplied` (n, k + 1) are the weights and a column of ones.
    """
    total = np.zeros((others.shape[0], multiplied.shape[1] - 1))
    buffer = _buffer(vectors, blocks, tiling)
    beside = buffer if others.dtype == vectors.dtype else _buffer(others, blocks, tiling)
    for columns in blocks:
        origin = _origin(vectors, columns)
        inner = Tiles(vectors, columns, origin, tiling, buffer).transposed_times(multiplied)
        mean = origin + inner[:, -1] / len(multiplied)
        for rows, tile in Tiles(others, columns, mean, tiling, beside):
            total[rows] += tile @ inner[:, :-1]
    return total


class Tiles:
    """The rows of one column block about an origin, tile by tile, as often as asked for.

    Tiles that the memory has room for are read once, others each time.
    """

    def __init__(
        self, vectors: Vectors, columns: slice, origin: Matrix, tiling: Tiling, buffer: Matrix
    ) -> None:
        self._vectors, self._columns, self._origin = vectors, columns, origin
        self._tiling, self._buffer = tiling, buffer
        self._held: dict[int, Matrix] = {}

    def __iter__(self) -> Iterator[tuple[slice, Matrix]]:
        """Row ranges and their entries."""
        n, step = self._vectors.shape[0], self._tiling.n_rows
        for number, start in enumerate(range(0, n, step)):
            rows = slice(start, min(start + step, n))
            yield rows, self._tile(number, rows)

    def transposed_times(self, block: Matrix) -> Matrix:
        """The transposed block times (n, l): (width, l)."""
        total = np.zeros((len(self._origin), block.shape[1]), block.dtype)
        for rows, tile in self:
            total += tile.T @ block[rows]
        return total

    def _tile(self, number: int, rows: slice) -> Matrix:
        if number in self._held:
            return self._held[number]
        # The last place in the buffer is for all those that are not kept.
        place = min(number, self._tiling.n_held) * self._tiling.n_rows
        out = self._buffer[place : place + rows.stop - rows.start, : len(self._origin)]
        tile = self._vectors.read(self._columns, rows, out=out, origin=self._origin)
        if number < self._tiling.n_held:
            self._held[number] = tile
        return tile


def _tiling(vectors: Vectors, n: int, n_wanted: int, memory_gib: float, n_out: int) -> Tiling:
    width = max(block.stop - block.start for block in _blocks(vectors))
    return Tiling.of(n, width, n_wanted, memory_gib, vectors.dtype.itemsize, n_out)


def _buffer(vectors: Vectors, blocks: Sequence[slice], tiling: Tiling) -> Matrix:
    width = max(block.stop - block.start for block in blocks)
    return np.empty((tiling.n_places * tiling.n_rows, width), vectors.dtype)


def _origin(vectors: Vectors, columns: slice) -> Matrix:
    few = vectors.take(origin_rows(np.arange(vectors.shape[0])))
    return read_origin(few, columns)


def _blocks(vectors: Vectors) -> list[slice]:
    """Column blocks that no inner chunk of a store is shared by."""
    step, first = BLOCK_COLUMNS, 0
    if isinstance(vectors, AdapterVectors):
        step, first = vectors.store.block, vectors.columns.start
    n_columns = vectors.shape[1]
    edges = [0, *range(step - first % step, n_columns, step), n_columns]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _run(
    task: Callable[..., Columns],
    vectors: Vectors,
    multiplied: Matrix,
    others: tuple[Any, ...],
    scheduler: Scheduler | None,
) -> Columns:
    # Handed over by a task, so that a scheduler sends it once to each machine.
    shared = dask.delayed(np.asarray, pure=False)(multiplied)
    carried = [dask.delayed(value, traverse=False) for value in (vectors, *others)]
    part = dask.delayed(task, pure=False)
    blocks = _blocks(vectors)
    size = -(-len(blocks) // MAX_TASKS)
    groups = [blocks[i : i + size] for i in range(0, len(blocks), size)]
    parts = [part(carried[0], shared, group, *carried[1:]) for group in groups]
    return np.asarray(compute(tree_sum(parts), scheduler))
