"""Inner products of adapter vectors over a segment of columns: the body of a task."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from lorastyle.embedding.blocks import BlockReader, Rows, blocks, read_origin, span
from lorastyle.embedding.product_sum import ProductSum, product_sum
from lorastyle.embedding.spent import Spent
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors

Matrix = npt.NDArray[np.float32]
Gram = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FactorTask:
    """Products of vectors about the origin's median, with one another or with others."""

    path: Path | str
    """The store; a task opens it where it runs."""
    rows: Rows
    """Store rows of the n vectors."""
    origin: Rows
    """Rows whose median is the origin."""
    columns: slice
    width: int
    """Columns to hold at once."""
    others: Rows | Matrix | None = None
    """m rows of the same store, or these columns of m vectors that are not in it (m, segment)."""

    def __call__(self, spent: Spent) -> Gram:
        """(n, n), or (m, n) with others."""
        store = AdapterStore.open(self.path)
        n_left = len(self.rows if self.others is None else self.others)
        total = product_sum((n_left, len(self.rows)))
        # Before waiting for a turn to read: meanwhile the disk fetches.
        store.hint(self.rows, self.columns)
        with BlockReader(_whole(store, self.rows), self.width) as reader:
            for panels in blocks(self.columns, store.block, self.width):
                columns = span(panels)
                begun = time.monotonic()
                origin = read_origin(_whole(store, self.origin), columns)
                block = reader.read(columns, origin)
                beside = self._read_others(store, columns, origin)
                spent.read(block.nbytes, time.monotonic() - begun)
                with spent.computing():
                    _add_panels(total, panels, block, beside)
        return total.result()

    def _read_others(self, store: AdapterStore, columns: slice, origin: Matrix) -> Matrix | None:
        if self.others is None:
            return None
        if self.others.ndim == 1:
            return _whole(store, cast(Rows, self.others)).read(columns, origin=origin)
        first = self.columns.start
        part = self.others[:, columns.start - first : columns.stop - first]
        return np.asarray(part - origin, np.float32)


def _whole(store: AdapterStore, rows: Rows) -> AdapterVectors:
    return AdapterVectors(store, rows, slice(0, store.size))


def _add_panels(
    total: ProductSum, panels: list[slice], block: Matrix, beside: Matrix | None
) -> None:
    first = panels[0].start
    for panel in panels:
        part = slice(panel.start - first, panel.stop - first)
        total.add(block[:, part], None if beside is None else beside[:, part])
