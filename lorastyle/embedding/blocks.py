"""Column blocks of the store: how they are cut, read and moved to an origin.

Cuts and origin depend on the store and on the rows alone, never on memory or on the
number of workers: the sums of a pass are the same bits wherever it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from lorastyle.store.vectors import AdapterVectors

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

PANEL = 16_384
"""Columns of one float32 product; products are added up in float64."""
MAX_SEGMENTS = 64
"""Segments that a whole pass is cut into, about: the unit of work, progress and resumption."""
ORIGIN_ROWS = 3


def origin_rows(rows: npt.ArrayLike) -> Rows:
    """The rows whose median is the origin of a pass: a few, spread evenly over `rows`."""
    rows = np.asarray(rows, np.int64)
    count = min(len(rows), ORIGIN_ROWS)
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(np.int64))]


class Readable(Protocol):
    """A matrix whose columns can be read: stored vectors, or an array in memory."""

    def read(self, columns: slice, /) -> npt.NDArray[Any]: ...


def read_origin(vectors: Readable, columns: slice) -> npt.NDArray[Any]:
    """The median (w,) of the origin's vectors in these columns; of two, the larger.

    Any origin will do, since centring removes it; but float32 needs one near all
    vectors, or a mean far above the spread would eat its digits. A median of three
    is, even where one of them is broken, and new rows do not move it.
    """
    values = np.sort(vectors.read(columns), axis=0)
    return np.asarray(values[len(values) // 2])


def cut_segments(columns: slice, chunk: int, n_chunks: int) -> list[slice]:
    """Cut a column range at every `n_chunks`-th inner chunk of the store."""
    step = chunk * n_chunks
    first = columns.start // step * step
    edges = [columns.start, *range(first + step, columns.stop, step), columns.stop]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def chunks_per_segment(n_columns: int, chunk: int) -> int:
    """Inner chunks a segment has, so that a pass over all columns has few segments."""
    return max(1, -(-n_columns // (chunk * MAX_SEGMENTS)))


def blocks(columns: slice, chunk: int, width: int) -> Iterator[list[slice]]:
    """What to read at once, as neighbouring panels: within one inner chunk, at most `width` wide.

    Panels lie on a grid that starts with each inner chunk, so `width` changes what is read
    together and not what is multiplied together; below PANEL it narrows the panels too.
    """
    block: list[slice] = []
    for panel in _panels(columns, chunk, min(PANEL, width)):
        if block and (panel.start % chunk == 0 or panel.stop - block[0].start > width):
            yield block
            block = []
        block.append(panel)
    if block:
        yield block


def _panels(columns: slice, chunk: int, width: int) -> Iterator[slice]:
    for first in range(columns.start // chunk * chunk, columns.stop, chunk):
        for start in range(first, min(first + chunk, columns.stop), width):
            stop = min(start + width, first + chunk, columns.stop)
            if stop > columns.start:
                yield slice(max(start, columns.start), stop)


def span(panels: Sequence[slice]) -> slice:
    """The column range of neighbouring panels."""
    return slice(panels[0].start, panels[-1].stop)


class BlockReader:
    """Reads blocks of some adapters about an origin, into a buffer that is used again.

    A fresh array a block would cost as much in page faults as the copying.
    """

    def __init__(self, vectors: AdapterVectors, width: int) -> None:
        self._vectors = vectors
        self._size = len(vectors) * width

    def __enter__(self) -> Self:
        self._buffer = SPARE.take(self._size)
        return self

    def __exit__(self, *_: object) -> None:
        SPARE.give(self._buffer)

    def read(self, columns: slice, origin: Matrix) -> Matrix:
        """Columns (n, w) less the origin (w,); valid until the next call."""
        n, width = len(self._vectors), columns.stop - columns.start
        out = self._buffer[: n * width].reshape(n, width)
        return self._vectors.read(columns, out=out, origin=origin)


class SpareBuffers:
    """Buffers that a process's tasks hand on to one another; all of about one size."""

    def __init__(self) -> None:
        self._buffers: list[Matrix] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> Matrix:
        """A buffer of at least `size` numbers, with anything in them."""
        with self._lock:
            while self._buffers:
                buffer = self._buffers.pop()
                if len(buffer) >= size:
                    return buffer
        return np.empty(size, np.float32)

    def give(self, buffer: Matrix) -> None:
        with self._lock:
            self._buffers.append(buffer)

    def clear(self) -> None:
        """Free the memory."""
        with self._lock:
            self._buffers.clear()


SPARE = SpareBuffers()
