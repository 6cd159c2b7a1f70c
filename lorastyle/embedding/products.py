"""Inner products of long vectors, column block by column block.

The column mean is taken off inside each block. PCA does not notice, since
centring removes any origin, but float32 does: raw products of vectors whose mean
is much larger than their spread lose the spread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.floating[Any]]
Gram = npt.NDArray[np.float64]

BLOCK_COLUMNS = 65_536


def products(vectors: Any, others: Any = None, block_columns: int = BLOCK_COLUMNS) -> Gram:
    """Inner products about the mean of `vectors`, float64.

    Shapes: vectors (n, p) and others (m, p), NumPy or Dask; the result is (n, n), or
    (m, n) where there are others. A Dask array is read once, in blocks of its own
    column chunks, with the scheduler that is set; a block holds every row.
    """
    if isinstance(vectors, da.Array) or isinstance(others, da.Array):
        return _lazy_products(da.asarray(vectors), others)
    total: Gram = np.zeros((len(vectors if others is None else others), len(vectors)))
    for columns in _column_blocks(vectors.shape[1], block_columns):
        beside = None if others is None else others[:, columns]
        total += block_products(vectors[:, columns], beside)
    return total


def block_products(block: Block, others: Block | None = None, *, overwrite: bool = False) -> Gram:
    """Products of one column block (n, w), or of (m, w) with it, about its column mean.

    Float32 products and, when the caller adds blocks up, float64 sums: rounding
    then stays at 1e-7 of the spread, whatever the mean. `overwrite` spends the block.
    """
    mean = block.mean(axis=0, dtype=np.float64).astype(block.dtype)
    about_mean = np.subtract(block, mean, out=block if overwrite else None)
    # One operand twice: NumPy then calls syrk, half the work of a general product.
    beside = about_mean if others is None else others.astype(block.dtype, copy=False) - mean
    return np.asarray(beside @ about_mean.T, np.float64)


def _column_blocks(n_columns: int, width: int) -> Iterator[slice]:
    for start in range(0, n_columns, width):
        yield slice(start, min(start + width, n_columns))


def _lazy_products(vectors: da.Array, others: Any) -> Gram:
    vectors = vectors.rechunk({0: -1})
    blocks = vectors.to_delayed().reshape(-1)
    if others is None:
        besides = [None] * len(blocks)
    else:
        chunks = (-1, vectors.chunks[1])
        besides = da.asarray(others).rechunk(chunks).to_delayed().reshape(-1)
    task = dask.delayed(block_products, traverse=False)
    (total,) = dask.compute(
        tree_sum([task(block, beside) for block, beside in zip(blocks, besides, strict=True)])
    )
    return np.asarray(total)


def tree_sum(parts: list[Any], fan_in: int = 4) -> Any:
    """One delayed sum of delayed (n, n) matrices: few of them are alive at a time.

    The shape of the tree is fixed, so the sum does not depend on who finishes first.
    """
    add = dask.delayed(sum_of)
    while len(parts) > 1:
        parts = [add(parts[i : i + fan_in]) for i in range(0, len(parts), fan_in)]
    return parts[0]


def sum_of(grams: list[Gram]) -> Gram:
    """Sum in the given order, float64."""
    total = np.array(grams[0], np.float64)
    for gram in grams[1:]:
        total += gram
    return total
