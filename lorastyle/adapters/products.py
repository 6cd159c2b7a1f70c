"""Exact inner products of whole databases of adapters, on the modules that each two share.

Ranks, scalings and sets of modules differ freely. What two adapters do not share cannot
be compared, so every answer says how much that was: cosines are of the intersection,
and beside them stand the modules shared and the share of each adapter's energy on them.
Errors and sizes: docs/delta-kernel.md.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from lorastyle.adapters.kernel import FactorStack, stack_products
from lorastyle.adapters.naming import part_of
from lorastyle.adapters.pairs import check_shapes
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate

Gram = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Grouping = Callable[[ModuleKey], str | None]

DEFAULT_MEMORY_BYTES = 2**31
TILE_BYTES = 2**26
"""Of one worker's two product matrices, on a GPU; on the CPU they are smaller still."""
TASKS_AHEAD = 64
"""Modules in work or waiting to be added."""


def by_part(key: ModuleKey) -> str:
    """The usual grouping of modules: by sub-network, or what else they are."""
    return part_of(key.network, key.module)


@dataclass(frozen=True)
class ModuleTable:
    """Which modules adapters have, and how much of each lies where."""

    present: npt.NDArray[np.bool_]
    """(n, modules)."""
    energy: Gram
    """Squared norm of each update, (n, modules); 0 where there is none."""


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Inner products between n and m adapters, a matrix for each group of modules."""

    sums: Mapping[str, Gram]
    """(n, m), over the modules of the group that both adapters have."""
    modules: tuple[ModuleKey, ...]
    """Those that have a group and are in any adapter, sorted."""
    groups: tuple[str, ...]
    """Of each module."""
    left: ModuleTable
    right: ModuleTable
    symmetric: bool
    """The n adapters with themselves."""

    def inner(self, groups: Iterable[str] | None = None) -> Gram:
        """Inner products (n, m), summed over these groups; over all by default."""
        total = np.zeros((len(self.left.energy), len(self.right.energy)))
        for group in self._names(groups):
            total += self.sums[group]
        return total

    def coverage(self, groups: Iterable[str] | None = None) -> Counts:
        """Number of modules that both have, (n, m)."""
        chosen = self._columns(groups)
        left, right = self.left.present[:, chosen], self.right.present[:, chosen]
        return left.astype(np.int64) @ right.T.astype(np.int64)

    def shared_energy(self, groups: Iterable[str] | None = None) -> tuple[Gram, Gram]:
        """Squared norms (n, m) of the left and of the right adapter, on shared modules alone."""
        chosen = self._columns(groups)
        left = self.left.energy[:, chosen] @ self.right.present[:, chosen].T.astype(np.float64)
        right = self.left.present[:, chosen].astype(np.float64) @ self.right.energy[:, chosen].T
        return left, right

    def energy_share(self, groups: Iterable[str] | None = None) -> tuple[Gram, Gram]:
        """Of each adapter's squared norm in these groups, what is on shared modules: (n, m)."""
        names = self._names(groups)
        chosen = self._columns(names)
        left, right = self.shared_energy(names)
        of_left = self.left.energy[:, chosen].sum(axis=1)[:, None]
        of_right = self.right.energy[:, chosen].sum(axis=1)[None, :]
        return _ratio(left, np.broadcast_to(of_left, left.shape)), _ratio(
            right, np.broadcast_to(of_right, right.shape)
        )

    def cosine(self, groups: Iterable[str] | None = None) -> Gram:
        """Cosines (n, m) on the modules that both have; 0 where nothing is shared.

        An adapter that is zero there has no direction: 0, with itself too.
        """
        names = self._names(groups)
        left, right = self.shared_energy(names)
        norms = np.sqrt(left * right)
        cosines = np.clip(_ratio(self.inner(names), norms), -1.0, 1.0)
        if self.symmetric:
            np.fill_diagonal(cosines, np.where(np.diagonal(norms) > 0, 1.0, 0.0))
        return cosines

    def _names(self, groups: Iterable[str] | None) -> list[str]:
        """Groups that there are; one that no adapter has adds nothing."""
        chosen = self.sums if groups is None else dict.fromkeys(groups)
        return [group for group in chosen if group in self.sums]

    def _columns(self, groups: Iterable[str] | None) -> npt.NDArray[np.intp]:
        names = set(self._names(groups))
        return np.array([k for k, group in enumerate(self.groups) if group in names], np.intp)


def cross_products(
    left: Sequence[Adapter],
    right: Sequence[Adapter] | None = None,
    *,
    group: Grouping = by_part,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    device: str = "cpu",
    n_workers: int | None = None,
) -> CrossProducts:
    """Inner products of every adapter of `left` with every one of `right`, or among themselves.

    `group` names the matrix that a module's products are added to; None leaves the
    module out. Products are float32, sums over modules float64, in an order that
    depends on neither `memory_bytes` nor `n_workers`.

    Out of core: an adapter is taken from its sequence when its turn comes and let go
    afterwards, so a sequence may load files on access (`__getitem__`, `__len__`). A block
    of each side is held at a time, together `memory_bytes` or two adapters, and as much
    again in copies; each adapter of `right` is touched once for each block of `left`.
    `n_workers` threads (default: one a core) share a block's modules, each with one
    BLAS thread; on a GPU (`device="cuda"`) they keep it fed.

    Raises LayoutMismatchError where adapters have a module of one name but two shapes.
    """
    symmetric = right is None
    rights = left if right is None else right
    book = _Book(group, (len(left), len(rights)), symmetric)
    with threadpool_limits(1), ThreadPoolExecutor(n_workers or os.cpu_count() or 1) as pool:
        for rows in _blocks(left, memory_bytes // 2):
            for columns in _columns(rows, rights, memory_bytes // 2, symmetric):
                book.enter("left", rows, pool)
                book.enter("left" if symmetric else "right", columns, pool)
                _multiply(rows, columns, book, pool, device)
                del columns  # else it would stay while the next block is loaded
            del rows
    return book.closed()


@dataclass(frozen=True, eq=False)
class _Block:
    """Neighbouring adapters of a sequence, in memory."""

    start: int
    adapters: list[Adapter]

    @property
    def stop(self) -> int:
        return self.start + len(self.adapters)

    def having(self, key: ModuleKey) -> list[int]:
        """Places in the sequence of those that have this module."""
        return [self.start + k for k, one in enumerate(self.adapters) if key in one.updates]

    def updates(self, key: ModuleKey) -> list[ModuleUpdate]:
        return [one.updates[key] for one in self.adapters if key in one.updates]


def _blocks(adapters: Sequence[Adapter], n_bytes: int, start: int = 0) -> Iterator[_Block]:
    """Neighbours whose factors have about `n_bytes` together; one adapter at least."""
    while start < len(adapters):
        block = _Block(start, [])
        size = 0
        while block.stop < len(adapters) and (
            not size or size + size // len(block.adapters) <= n_bytes
        ):
            block.adapters.append(adapters[block.stop])
            size += 4 * block.adapters[-1].n_parameters
        yield block
        start = block.stop


def _columns(
    rows: _Block, rights: Sequence[Adapter], n_bytes: int, symmetric: bool
) -> Iterator[_Block]:
    """What a block of rows is multiplied with: itself and what follows it, if symmetric."""
    if symmetric:
        yield rows
        yield from _blocks(rights, n_bytes, start=rows.stop)
    else:
        yield from _blocks(rights, n_bytes)


@dataclass(frozen=True, eq=False)
class _ModuleTask:
    """The products of one module between two blocks."""

    key: ModuleKey
    left: _Block
    right: _Block
    rows: list[int]
    columns: list[int]
    device: str

    def run(self) -> Gram:
        left = self.left.updates(self.key)
        if self.left is self.right:
            products = stack_products(_stack(left), memory_bytes=TILE_BYTES, device=self.device)
            return _scaled(products, left, left)
        right = self.right.updates(self.key)
        products = stack_products(
            _stack(left), _stack(right), memory_bytes=TILE_BYTES, device=self.device
        )
        return _scaled(products, left, right)


def _multiply(
    left: _Block, right: _Block, book: _Book, pool: ThreadPoolExecutor, device: str
) -> None:
    """Add the products of two blocks to the book's sums, module by module in order of names."""
    tasks = []
    for key in sorted(book.groups):
        rows, columns = left.having(key), right.having(key)
        if rows and columns:
            tasks.append(_ModuleTask(key, left, right, rows, columns, device))
    for task, products in _in_order(pool, tasks):
        book.add(task, products)


def _in_order(
    pool: ThreadPoolExecutor, tasks: Iterable[_ModuleTask]
) -> Iterator[tuple[_ModuleTask, Gram]]:
    """Each task with its products; few are ahead, so that results do not pile up."""
    ahead: deque[tuple[_ModuleTask, Future[Gram]]] = deque()
    for task in tasks:
        ahead.append((task, pool.submit(task.run)))
        if len(ahead) > TASKS_AHEAD:
            first, future = ahead.popleft()
            yield first, future.result()
    for task, future in ahead:
        yield task, future.result()


def _stack(updates: Sequence[ModuleUpdate]) -> FactorStack:
    return FactorStack.of_pairs([(one.lora_A, one.lora_B) for one in updates])


def _scaled(products: Gram, left: Sequence[ModuleUpdate], right: Sequence[ModuleUpdate]) -> Gram:
    # One product of both: scaled in turn, (i, j) and (j, i) would round differently.
    products *= np.outer([one.scaling for one in left], [one.scaling for one in right])
    return products


class _Book:
    """The sums, and what was seen of each adapter: its modules, their shapes and energies."""

    def __init__(self, group: Grouping, shape: tuple[int, int], symmetric: bool) -> None:
        self.groups: dict[ModuleKey, str] = {}
        self._group, self._shape, self._symmetric = group, shape, symmetric
        self._sums: dict[str, Gram] = {}
        self._shapes: dict[ModuleKey, tuple[tuple[int, int], str]] = {}
        self._energies: dict[str, dict[int, dict[ModuleKey, float]]] = {"left": {}, "right": {}}

    def enter(self, side: str, block: _Block, pool: ThreadPoolExecutor) -> None:
        """Note the adapters of a block; those noted before cost nothing."""
        noted = self._energies[side]
        new = [(i, one) for i, one in enumerate(block.adapters, block.start) if i not in noted]
        for _, adapter in new:
            self._enter_modules(adapter)
        energies = pool.map(self._energies_of, [adapter for _, adapter in new])
        noted.update(zip([i for i, _ in new], energies, strict=True))

    def _enter_modules(self, adapter: Adapter) -> None:
        for key, update in adapter.updates.items():
            shape, name = self._shapes.setdefault(key, (update.shape, adapter.name))
            check_shapes(key, name, shape, adapter.name, update.shape)
            if key not in self.groups and (group := self._group(key)) is not None:
                self.groups[key] = group

    def _energies_of(self, adapter: Adapter) -> dict[ModuleKey, float]:
        return {key: _energy(one) for key, one in adapter.updates.items() if key in self.groups}

    def add(self, task: _ModuleTask, products: Gram) -> None:
        """Add what a task returned to the sum of its module's group."""
        total = self._sums.setdefault(self.groups[task.key], np.zeros(self._shape))
        total[np.ix_(task.rows, task.columns)] += products
        if self._symmetric and task.left is not task.right:
            total[np.ix_(task.columns, task.rows)] += products.T

    def closed(self) -> CrossProducts:
        modules = tuple(sorted(self.groups))
        groups = tuple(self.groups[key] for key in modules)
        for group in groups:
            self._sums.setdefault(group, np.zeros(self._shape))
        left = _table(self._energies["left"], modules, self._shape[0])
        right = left
        if not self._symmetric:
            right = _table(self._energies["right"], modules, self._shape[1])
        return CrossProducts(self._sums, modules, groups, left, right, self._symmetric)


def _energy(update: ModuleUpdate) -> float:
    """As `ModuleUpdate.energy`, with products in float32 as in the kernel: a tenth of the time."""
    down, up = update.lora_A @ update.lora_A.T, update.lora_B.T @ update.lora_B
    return max(0.0, update.scaling**2 * float((down * up).sum(dtype=np.float64)))


def _table(
    energies: Mapping[int, Mapping[ModuleKey, float]], modules: Sequence[ModuleKey], n: int
) -> ModuleTable:
    column = {key: k for k, key in enumerate(modules)}
    table = ModuleTable(np.zeros((n, len(modules)), bool), np.zeros((n, len(modules))))
    for row, of_modules in energies.items():
        chosen = [column[key] for key in of_modules]
        table.present[row, chosen] = True
        table.energy[row, chosen] = list(of_modules.values())
    return table


def _ratio(numerator: Gram, denominator: Gram) -> Gram:
    """0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
