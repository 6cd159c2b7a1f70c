"""Inner products of long vectors, column block by column block.

The column mean is taken off inside each block. PCA does not notice, since
centring removes any origin, but float32 does: raw products of vectors whose mean
is much larger than their spread lose the spread. Where products about zero are
asked for, what the mean adds is put back in float64.

On one processor a result is the same bits however the matrix comes: in memory in any
layout, or from Dask in any chunks. BLAS adds in another order for another layout or
number of threads; so every block is brought into one layout and multiplied on one BLAS
thread, and blocks are added up in one order. Another processor's last bits may differ.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dask
import dask.array as da
import dask.base
import dask.threaded
import numpy as np
import numpy.typing as npt

from lorastyle.embedding.blas import one_blas_thread
from lorastyle.store.vectors import AdapterVectors

Block = npt.NDArray[np.floating[Any]]
Gram = npt.NDArray[np.float64]

BLOCK_COLUMNS = 65_536
MAX_WORKERS = 4
"""Blocks in hand at once with Dask's own threads, at most."""
FAN_IN = 4
"""Matrices added up at once. Part of the order of a sum, and so of its bits."""


def products(
    vectors: Any,
    others: Any = None,
    block_columns: int = BLOCK_COLUMNS,
    *,
    centre: bool = True,
    scheduler: Callable[..., Any] | None = None,
) -> Gram:
    """Inner products about the mean of `vectors`, or about zero, float64.

    Shapes: vectors (n, p) and others (m, p), each NumPy, Dask or AdapterVectors; the
    result is (n, n), or (m, n) where there are others. A block holds every row of
    `block_columns` columns, wherever chunks end; the block is what memory grows
    with, and the result is the same bits for NumPy and for every chunking. A Dask
    array whose chunks are wider is sliced, few blocks at a time: sources that can be
    sliced read those columns only, others are computed again for each few blocks.
    What is all in memory is multiplied here, by a few threads, whatever `scheduler` is.
    """
    if not isinstance(vectors, np.ndarray) or not isinstance(others, np.ndarray | None):
        return _lazy_products(
            as_dask(vectors, block_columns),
            None if others is None else as_dask(others, block_columns),
            block_columns,
            centre,
            scheduler,
        )
    task = dask.delayed(block_products)
    parts = []
    for columns in column_blocks(vectors.shape[1], block_columns):
        beside = None if others is None else others[:, columns]
        parts.append(task(vectors[:, columns], beside, centre=centre))
    return np.asarray(compute(tree_sum(parts), _in_threads))


def block_products(
    block: Block, others: Block | None = None, *, centre: bool = True, overwrite: bool = False
) -> Gram:
    """Products of one column block (n, w), or of (m, w) with it, about its column mean.

    Float32 products and, when the caller adds blocks up, float64 sums: rounding
    then stays at 1e-7 of the spread, whatever the mean. `overwrite` spends the block.
    """
    block = _in_rows(block)
    mean = block.mean(axis=0, dtype=np.float64).astype(block.dtype)
    about_mean = np.subtract(block, mean, out=block if overwrite else None, order="C")
    # One operand twice: NumPy then calls syrk, half the work of a general product.
    beside = about_mean
    if others is not None:
        beside = np.subtract(others, mean, order="C").astype(block.dtype, copy=False)
    with one_blas_thread():
        result = np.asarray(beside @ about_mean.T, np.float64)
        return result if centre else result + _from_mean(beside, about_mean, mean)


def combine_block(block: Block, weights: Gram, centre: bool, restore: bool = False) -> Block:
    """Weighted sums (q, w) of the rows of one block (n, w), with weights (q, n).

    Centred, the rows are taken about their mean, which `restore` adds again: for
    weights that sum to zero that changes rounding only, and float32 needs it.
    """
    block = _in_rows(block)
    mean = block.mean(axis=0, dtype=np.float64)
    rows = np.subtract(block, mean.astype(block.dtype), order="C") if centre else block
    weights = np.ascontiguousarray(weights, block.dtype)
    with one_blas_thread():
        result = weights @ rows
    return np.asarray(result + mean if restore else result, block.dtype)


def column_blocks(n_columns: int, width: int) -> Iterator[slice]:
    """Neighbouring column ranges of this width; the last may be narrower."""
    for start in range(0, n_columns, width):
        yield slice(start, min(start + width, n_columns))


def as_dask(vectors: Any, block_columns: int = BLOCK_COLUMNS) -> da.Array:
    """The same matrix as a lazy Dask array; AdapterVectors are read in column blocks.

    Each block's task reads the files itself: it may run on another machine.
    """
    if isinstance(vectors, da.Array):
        return vectors
    if not isinstance(vectors, AdapterVectors):
        # Without a name of its own the array would be hashed for one: a pass for nothing.
        return da.from_array(vectors, chunks=(-1, block_columns), name=False)
    read = dask.delayed(vectors.read, pure=False)
    blocks = [
        da.from_delayed(
            read(columns), (len(vectors), columns.stop - columns.start), dtype=vectors.dtype
        )
        for columns in column_blocks(vectors.shape[1], block_columns)
    ]
    return da.concatenate(blocks, axis=1)


def compute(value: Any, scheduler: Callable[..., Any] | None = None) -> Any:
    """Compute a Dask value, with one BLAS thread a task.

    Without a `scheduler`, with the one that is set; without that, with few threads.
    """
    options: dict[str, Any] = {}
    if scheduler is not None:
        options = {"scheduler": scheduler}
    elif dask.base.get_scheduler() is None:
        options = {"scheduler": _in_threads}
    with one_blas_thread():
        (result,) = dask.compute(value, **options)
    return result


def n_workers() -> int:
    """Threads that work on blocks in this process, each with one of BLAS's."""
    return min(MAX_WORKERS, os.cpu_count() or 1)


def fits(arrays: list[da.Array], block_columns: int) -> bool:
    """Whether chunks are no wider than blocks, so that few blocks share one."""
    return all(max(array.chunks[1], default=0) <= block_columns for array in arrays)


def one_block(array: da.Array, columns: slice, rows: slice = slice(None)) -> Any:
    """A part of a lazy array as one delayed block."""
    (block,) = array[rows, columns].rechunk(-1).to_delayed().reshape(-1)
    return block


def add_up(parts: list[Any], together: bool, scheduler: Callable[..., Any] | None = None) -> Gram:
    """Sum of delayed matrices, as `tree_sum` adds them: all in one graph, or few in each.

    Few, where many need the same chunk: in one graph all its slices would wait in memory
    for their turn.
    """
    if together:
        return np.asarray(compute(tree_sum(parts), scheduler))
    sums = [compute(tree_sum(few), scheduler) for few in _fours(parts)]
    return np.asarray(tree_sum(sums, sum_of))


def tree_sum(parts: list[Any], add: Callable[[list[Any]], Any] | None = None) -> Any:
    """One delayed sum of delayed (n, n) matrices: few of them are alive at a time.

    The shape of the tree is fixed, so the sum does not depend on who finishes first.
    With `add=sum_of`, of matrices that are there.
    """
    add = add or dask.delayed(sum_of)
    while len(parts) > 1:
        parts = [add(few) for few in _fours(parts)]
    return parts[0]


def sum_of(grams: Iterable[Gram]) -> Gram:
    """Sum in the given order, float64: of many matrices one at a time is at hand."""
    rest = iter(grams)
    total = np.array(next(rest), np.float64)
    for gram in rest:
        total += gram
    return total


def _fours(parts: list[Any]) -> list[list[Any]]:
    return [parts[first : first + FAN_IN] for first in range(0, len(parts), FAN_IN)]


def _in_threads(graph: Any, keys: Any, **options: Any) -> Any:
    return dask.threaded.get(graph, keys, **{"num_workers": n_workers(), **options})


def _in_rows(block: Block) -> Block:
    """The block row after row, each row's entries side by side: copied if it is not.

    In another order NumPy would add up the column means differently.
    """
    in_rows = block.strides[1] == block.itemsize and block.strides[0] > 0
    return block if in_rows else np.ascontiguousarray(block)


def _from_mean(others: Block, vectors: Block, mean: Block) -> Gram:
    """What (others + mean) . (vectors + mean) has besides others . vectors: (m, n)."""
    exact = mean.astype(np.float64)
    left = np.einsum("ij,j->i", others, exact)
    right = left if others is vectors else np.einsum("ij,j->i", vectors, exact)
    return np.asarray(left[:, None] + right[None, :] + exact @ exact)


def _lazy_products(
    vectors: da.Array,
    others: da.Array | None,
    block_columns: int,
    centre: bool,
    scheduler: Callable[..., Any] | None,
) -> Gram:
    task = dask.delayed(block_products)
    parts = []
    for columns in column_blocks(vectors.shape[1], block_columns):
        beside = None if others is None else one_block(others, columns)
        parts.append(task(one_block(vectors, columns), beside, centre=centre))
    arrays = [vectors] if others is None else [vectors, others]
    return add_up(parts, fits(arrays, block_columns), scheduler)
