"""Inner products of adapter updates over neighbouring modules: the body of a task."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.kernel import delta_gram
from lorastyle.adapters.layout import LayoutEntry
from lorastyle.embedding.spent import Spent
from lorastyle.store.adapter_store import AdapterStore

Rows = npt.NDArray[np.int64]
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
    """Products of the updates, not yet normalised: `(alpha / rank)^2` times the factors'."""

    path: Path | str
    """The store; a task opens it where it runs."""
    rows: Rows
    modules: Sequence[Module]
    memory_bytes: int
    others: Rows | None = None
    """m rows of the same store."""

    def __call__(self, spent: Spent) -> Gram:
        """(n, n), or (m, n) with others."""
        store = AdapterStore.open(self.path)
        symmetric = self.others is None
        left = self.rows if self.others is None else self.others
        total: Gram = np.zeros((len(left), len(self.rows)))
        # Factors are held as read and, by the kernel, once more in its own order.
        n_numbers = self.memory_bytes // (2 * 2 * 4)
        n_held = len(self.rows) + (0 if symmetric else len(left))
        for batch in _batches(self.modules, n_numbers // n_held):
            # Where one module of all rows exceeds the memory, two tiles of rows take turns.
            side = n_held if len(batch) > 1 else max(1, n_numbers // (2 * _width(batch)))
            for i, j in _tiles(total.shape, side, symmetric):
                self._add_tile(total[i, j], store, batch, left[i], self.rows[j], spent)
        return _mirrored(total) if symmetric else total

    def _add_tile(
        self,
        total: Gram,
        store: AdapterStore,
        batch: Sequence[Module],
        left: Rows,
        right: Rows,
        spent: Spent,
    ) -> None:
        columns = slice(batch[0].columns.start, batch[-1].columns.stop)
        begun = time.monotonic()
        tile = store.read_columns(left, columns)
        same = np.array_equal(left, right)
        other = tile if same else store.read_columns(right, columns)
        spent.read(tile.nbytes + (0 if same else other.nbytes), time.monotonic() - begun)
        with spent.computing():
            for module in batch:
                factors = module.factors(tile, columns.start)
                others = () if same else module.factors(other, columns.start)
                total += delta_gram(
                    *factors,
                    *others,
                    scaling=store.scaling,
                    other_scaling=store.scaling,
                    memory_bytes=self.memory_bytes // 2,
                )


def _mirrored(upper: Gram) -> Gram:
    """The symmetric matrix whose upper triangle this is."""
    return np.asarray(np.triu(upper) + np.triu(upper, 1).T)


def _width(modules: Sequence[Module]) -> int:
    return sum(module.width for module in modules)


def _tiles(shape: tuple[int, ...], side: int, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    n_left, n_right = shape
    for i in range(0, n_left, side):
        for j in range(i if symmetric else 0, n_right, side):
            yield slice(i, min(i + side, n_left)), slice(j, min(j + side, n_right))


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
