"""The pass over the store that yields every Gram matrix, as Dask tasks.

A task opens the store itself, reads its columns of every row and returns one
(n, n) sum, so that a scheduler moves no weights: it may be Dask's threads, or Ray.
Columns of different sub-networks are never in one task; the three sums give the
whole network's for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.threaded
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from lorastyle.adapters.kernel import delta_gram
from lorastyle.adapters.layout import LayoutEntry
from lorastyle.embedding.products import Gram, block_products, tree_sum
from lorastyle.errors import StageError
from lorastyle.progress import Progress, Silent
from lorastyle.store.adapter_store import AdapterStore

Rows = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]
Scheduler = Callable[..., Any]

TASKS_PER_SUM = 16
"""Tasks a sub-network's sum is cut into, at most: each carries an (n, n) float64."""
SHARES = 4
"""The part of the working memory that one task may take is a quarter.

Fixed, so that blocks, hence the order of sums, do not depend on the machine."""


@dataclass(frozen=True)
class Module:
    """A target module's two factors in the layout."""

    entry_a: LayoutEntry
    entry_b: LayoutEntry

    @property
    def columns(self) -> slice:
        return slice(self.entry_a.offset, self.entry_b.stop)

    @property
    def width(self) -> int:
        return self.entry_a.size + self.entry_b.size

    def factors(self, vectors: Matrix, offset: int) -> tuple[Matrix, Matrix]:
        """lora_A (m, r, in) and lora_B (m, out, r) of columns that start at `offset`."""
        start, split, stop = (
            self.entry_a.offset - offset,
            self.entry_b.offset - offset,
            self.entry_b.stop - offset,
        )
        lora_A = vectors[:, start:split].reshape(-1, *self.entry_a.shape)
        return lora_A, vectors[:, split:stop].reshape(-1, *self.entry_b.shape)


def compute_sums(
    store: AdapterStore,
    rows: Rows,
    representations: Sequence[str] = ("factors", "delta"),
    *,
    memory_gib: float = 1.0,
    scheduler: Scheduler | None = None,
    shown: Progress | None = None,
) -> dict[str, dict[str, Gram]]:
    """Gram sums (n, n) float64 of these rows: by representation, then sub-network.

    `factors`: inner products of the vectors about their mean. `delta`: inner
    products of the updates, not yet normalised. Each is one pass over the store.
    `memory_gib` bounds what tasks hold at once with Dask's own threads; another
    scheduler's tasks hold a quarter of it each. Raises StoreError for damaged rows.
    """
    shown = shown or Silent()
    plans = {"factors": factor_tasks, "delta": delta_tasks}
    share = int(memory_gib * 2**30) // SHARES
    sums: dict[str, dict[str, Gram]] = {}
    for representation in representations:
        if representation not in plans:
            raise StageError(
                f"there is no representation {representation!r}; choose from {', '.join(plans)}"
            )
        sums[representation] = {}
        for sub_network, tasks in plans[representation](store, rows, share).items():
            sums[representation][sub_network] = _compute(tasks, scheduler)
            shown.advance()
    return sums


def factor_tasks(store: AdapterStore, rows: Rows, share: int) -> dict[str, list[Any]]:
    """Delayed partial sums of each sub-network's vectors."""
    width = _block_width(store, len(rows), share)
    task = dask.delayed(factor_sum)
    tasks = {}
    for sub_network, columns in _column_ranges(store).items():
        blocks = _cut(columns, width)
        groups = _contiguous_groups(blocks, [block.stop - block.start for block in blocks], width)
        tasks[sub_network] = [task(store.path, rows, group) for group in groups]
    return tasks


def delta_tasks(store: AdapterStore, rows: Rows, share: int) -> dict[str, list[Any]]:
    """Delayed partial sums of each sub-network's updates."""
    task = dask.delayed(delta_sum)
    tasks = {}
    for sub_network, modules in _modules(store).items():
        widths = [module.width for module in modules]
        groups = _contiguous_groups(modules, widths, least=store.block)
        tasks[sub_network] = [task(store.path, rows, group, share) for group in groups]
    return tasks


def factor_sum(path: Path, rows: Rows, blocks: Sequence[slice]) -> Gram:
    """Inner products (n, n) over some column blocks: the body of a task."""
    store = AdapterStore.open(path)
    total: Gram = np.zeros((len(rows), len(rows)))
    for block in blocks:
        total += block_products(store.read_columns(rows, block), overwrite=True)
    return total


def delta_sum(path: Path, rows: Rows, modules: Sequence[Module], share: int) -> Gram:
    """Inner products (n, n) of the updates over neighbouring modules: the body of a task."""
    store = AdapterStore.open(path)
    total: Gram = np.zeros((len(rows), len(rows)))
    memory_bytes = share // 2
    # Factors are held as read and, by the kernel, once more in its own order.
    n_numbers = memory_bytes // (2 * 4)
    for batch in _batches(modules, n_numbers // len(rows)):
        width = sum(module.width for module in batch)
        # Where one module of all rows exceeds the memory, two tiles of rows take turns.
        side = len(rows) if len(batch) > 1 else min(len(rows), n_numbers // (2 * width))
        _add_batch(total, store, rows, batch, max(1, side), memory_bytes)
    return total


def _add_batch(
    total: Gram,
    store: AdapterStore,
    rows: Rows,
    batch: Sequence[Module],
    side: int,
    memory_bytes: int,
) -> None:
    columns = slice(batch[0].columns.start, batch[-1].columns.stop)
    for i in range(0, len(rows), side):
        tile = store.read_columns(rows[i : i + side], columns)
        for j in range(i, len(rows), side):
            other = tile if i == j else store.read_columns(rows[j : j + side], columns)
            part = _tile_products(tile, other, batch, columns.start, store.scaling, memory_bytes)
            total[i : i + side, j : j + side] += part
            if i != j:
                total[j : j + side, i : i + side] += part.T


def _tile_products(
    tile: Matrix,
    other: Matrix,
    batch: Sequence[Module],
    offset: int,
    scaling: float,
    memory_bytes: int,
) -> Gram:
    """Products of the rows of two tiles, whose columns start at `offset` of the layout."""
    total: Gram = np.zeros((len(tile), len(other)))
    for module in batch:
        factors = module.factors(tile, offset)
        others = () if other is tile else module.factors(other, offset)
        total += delta_gram(
            *factors, *others, scaling=scaling, other_scaling=scaling, memory_bytes=memory_bytes
        )
    return total


def _batches(modules: Sequence[Module], max_width: int) -> list[list[Module]]:
    """Neighbours to be read at once: a small module shares its inner chunk with them."""
    batches: list[list[Module]] = []
    width = 0
    for module in modules:
        if not batches or width + module.width > max_width:
            batches.append([])
            width = 0
        batches[-1].append(module)
        width += module.width
    return batches


def _compute(parts: list[Any], scheduler: Scheduler | None) -> Gram:
    total = tree_sum(parts)
    options: dict[str, Any] = {"scheduler": scheduler}
    if scheduler is None:
        n_workers = min(SHARES, os.cpu_count() or 1)
        options = {"scheduler": dask.threaded.get, "num_workers": n_workers}
    # One BLAS thread a task: threads under threads were 2 to 10 times slower, and the number
    # of threads shows in the last bits. (Ray gives its workers one by itself.)
    with threadpool_limits(1):
        (result,) = dask.compute(total, **options)
    return np.asarray(result)


def _block_width(store: AdapterStore, n_rows: int, share: int) -> int:
    """Columns of a block: whole inner chunks where the memory allows."""
    width = max(1, share // (4 * n_rows))
    if width >= store.block:
        return width // store.block * store.block
    return max(1, store.block // -(-store.block // width))


def _column_ranges(store: AdapterStore) -> dict[str, slice]:
    # The layout keeps each sub-network in one contiguous range.
    return {name: store.layout.columns(name)[0] for name in store.sub_networks}


def _cut(columns: slice, width: int) -> list[slice]:
    """Cut at multiples of `width`, so that inner chunks are not read twice."""
    first = columns.start // width * width
    edges = [columns.start, *range(first + width, columns.stop, width), columns.stop]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _modules(store: AdapterStore) -> dict[str, list[Module]]:
    entries = store.layout.entries
    by_sub_network: dict[str, list[Module]] = {}
    for a, b in zip(entries[::2], entries[1::2], strict=True):
        by_sub_network.setdefault(a.sub_network, []).append(Module(a, b))
    return by_sub_network


def _contiguous_groups(items: Sequence[Any], costs: Sequence[int], least: int) -> list[list[Any]]:
    """At most TASKS_PER_SUM groups of neighbours of about the same cost, at least `least`."""
    limit = max(sum(costs) / TASKS_PER_SUM, least)
    groups: list[list[Any]] = []
    filled = 0.0
    for item, cost in zip(items, costs, strict=True):
        if not groups or filled >= limit * len(groups):
            groups.append([])
        groups[-1].append(item)
        filled += cost
    return groups
