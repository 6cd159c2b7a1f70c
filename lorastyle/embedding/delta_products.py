"""Inner products of adapter updates over neighbouring modules: the body of a task."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.layout import LayoutEntry
from lorastyle.embedding.measures import Measure, measure_of
from lorastyle.embedding.spent import Spent
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.cohorts import Cohort, Rows

Matrix = npt.NDArray[np.float32]
Gram = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Module:
    """A target module's two factors in the layout."""

    entry_a: LayoutEntry
    entry_b: LayoutEntry

    @property
    def name(self) -> str:
        return self.entry_a.module

    @property
    def columns(self) -> slice:
        return slice(self.entry_a.offset, self.entry_b.stop)

    @property
    def rank(self) -> int:
        return self.entry_a.shape[0]

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


@dataclass(frozen=True)
class DeltaTask:
    """Products of the updates, not yet normalised.

    Adapters may lie in several stores and differ in rank; a store's `alpha / rank` scales its
    updates.
    """

    cohorts: tuple[Cohort, ...]
    """n adapters."""
    modules: Sequence[Module]
    """Neighbours in the layout; other stores have them by the same names."""
    memory_bytes: int
    others: tuple[Cohort, ...] | None = None
    """m adapters, beside which the n are put."""
    representation: str = "delta"
    """One that `measures.measure_of` knows."""

    def __call__(self, spent: Spent) -> Gram:
        """(n, n), or (m, n) with others; where the measure has several sums, (n_sums, n, n)."""
        left = self.cohorts if self.others is None else self.others
        measure = measure_of(self.representation)
        shape = (len(measure.sums), _n_adapters(left), _n_adapters(self.cohorts))
        total: Gram = np.zeros(shape)
        # Factors are held as read and, by the kernel, once more in its own order.
        n_numbers = self.memory_bytes // (2 * 2 * 4)
        n_held = _n_adapters(self.cohorts) + (0 if self.others is None else _n_adapters(left))
        for batch in _batches(self.modules, measure, n_numbers // max(1, n_held)):
            # Where one module of all adapters exceeds the memory, two parts of them take turns.
            width = _width(batch, measure)
            side = n_held if len(batch) > 1 else max(1, n_numbers // (2 * width))
            keep_all = len(batch) > 1 or n_held * width <= n_numbers
            names = tuple(module.name for module in batch)
            reader = _Reader(names, measure, keep_all, n_numbers, spent)
            for i, j in _pairs(left, self.cohorts, side, symmetric=self.others is None):
                self._add(total, reader.read(i), reader.read(j), i, j, spent)
        return total[0] if len(measure.sums) == 1 else total

    def _add(
        self, total: Gram, here: _Prepared, there: _Prepared, i: Cohort, j: Cohort, spent: Spent
    ) -> None:
        with spent.computing():
            measure = measure_of(self.representation)
            product: Gram = np.zeros((len(total), len(i), len(j)))
            for ours, theirs in zip(here, there, strict=True):
                other = None if here is there else theirs
                product += measure.products(ours, other, self.memory_bytes // 2)
            total[:, i.places[:, None], j.places[None, :]] += product
            if self.others is None and here is not there:
                total[:, j.places[:, None], i.places[None, :]] += product.mT


_Prepared = list[Any]
"""A cohort's factors of each module of a batch, as the measure wants them."""


class _Reader:
    """Reads the factors of cohorts; all are kept where memory allows, else the last two."""

    def __init__(
        self,
        names: tuple[str, ...],
        measure: Measure,
        keep_all: bool,
        n_numbers: int,
        spent: Spent,
    ) -> None:
        self._names, self._measure = names, measure
        self._keep_all, self._n_numbers, self._spent = keep_all, n_numbers, spent
        self._kept: dict[int, tuple[Cohort, _Prepared]] = {}

    def read(self, cohort: Cohort) -> _Prepared:
        if id(cohort) not in self._kept:
            while not self._keep_all and len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
            # With the cohort itself, so that its id stays its own.
            self._kept[id(cohort)] = cohort, self._read(cohort)
        # The latest last: of two, the other one is forgotten first.
        found = self._kept.pop(id(cohort))
        self._kept[id(cohort)] = found
        return found[1]

    def _read(self, cohort: Cohort) -> _Prepared:
        store = AdapterStore.open(cohort.path)
        modules = modules_by_name(store, self._names)
        parts = [
            self._reduced(store, part.rows, modules) for part in cohort.cut(self._side(modules))
        ]
        with self._spent.computing():
            return [
                self._measure.prepare(*_below_one_another(factors), store.scaling)
                for factors in zip(*parts, strict=True)
            ]

    def _side(self, modules: Sequence[Module]) -> int:
        """Adapters to read at once: where only a part of what is read is kept, some."""
        width = sum(module.width for module in modules)
        if _width(modules, self._measure) == width:
            return sys.maxsize
        return max(1, self._n_numbers // width)

    def _reduced(
        self, store: AdapterStore, rows: Rows, modules: Sequence[Module]
    ) -> list[tuple[Matrix, Matrix]]:
        columns = slice(modules[0].columns.start, modules[-1].columns.stop)
        begun = time.monotonic()
        tile = store.read_columns(rows, columns)
        self._spent.read(tile.nbytes, time.monotonic() - begun)
        with self._spent.computing():
            return [
                self._measure.reduce(*module.factors(tile, columns.start)) for module in modules
            ]


def _below_one_another(parts: Sequence[tuple[Matrix, Matrix]]) -> tuple[Matrix, Matrix]:
    if len(parts) == 1:
        return parts[0]
    lora_A, lora_B = zip(*parts, strict=True)
    return np.concatenate(lora_A), np.concatenate(lora_B)


def modules_by_name(store: AdapterStore, names: Sequence[str]) -> list[Module]:
    """A store's modules of these names, in this order."""
    entries = {entry.key: entry for entry in store.layout.entries}
    return [Module(entries[name, "A"], entries[name, "B"]) for name in names]


def _pairs(
    left: Sequence[Cohort], right: Sequence[Cohort], side: int, *, symmetric: bool
) -> Iterator[tuple[Cohort, Cohort]]:
    """Parts of cohorts, each with each; those of one side with themselves only once."""
    rows = [part for cohort in left for part in cohort.cut(side)]
    columns = rows if symmetric else [part for cohort in right for part in cohort.cut(side)]
    for position, i in enumerate(rows):
        for j in columns[position if symmetric else 0 :]:
            yield i, j


def _n_adapters(cohorts: Sequence[Cohort]) -> int:
    return sum(len(cohort) for cohort in cohorts)


def _width(modules: Sequence[Module], measure: Measure) -> int:
    """Numbers an adapter that are held of these modules."""
    return sum(module.width // module.rank * measure.rank(module.rank) for module in modules)


def _batches(modules: Sequence[Module], measure: Measure, max_width: int) -> list[list[Module]]:
    """Neighbours to be read at once: a small module shares its inner chunk with them."""
    batches: list[list[Module]] = []
    width = 0
    for module in modules:
        own = _width([module], measure)
        if not batches or width + own > max_width:
            batches.append([])
            width = 0
        batches[-1].append(module)
        width += own
    return batches
