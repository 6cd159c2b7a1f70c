"""`AdapterVectors`: an (n, p) matrix that stays on disk, some rows and columns of a store.

The three sub-networks are one range of columns each. Other expressions may be several:
`UnionVectors` puts them side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.module_sets import column_ranges
from lorastyle.errors import StoreError
from lorastyle.store.adapter_store import AdapterStore

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AdapterVectors:
    """The vectors of some adapters, cut to one sub-network: read block by block.

    Cheap to make and to pickle: a task on another machine opens the same files.
    """

    store: AdapterStore
    rows: Rows
    """Store rows, in the order of this matrix: (n,)."""
    columns: slice
    """Column range of the store, step 1."""

    @classmethod
    def of(
        cls, store: AdapterStore, rows: npt.ArrayLike, sub_network: str = "full"
    ) -> AdapterVectors:
        """These rows of a sub-network. Raises StoreError where it is not one range of columns."""
        ranges = _ranges(store, sub_network)
        if len(ranges) > 1:
            raise StoreError(
                f"the columns of {sub_network} in {store.path} are {len(ranges)} ranges, not one; "
                "read them as UnionVectors"
            )
        return cls(store, np.asarray(rows, np.int64).reshape(-1), ranges[0])

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), self.columns.stop - self.columns.start

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def read(
        self,
        columns: slice,
        rows: slice = slice(None),
        *,
        out: Matrix | None = None,
        origin: Matrix | None = None,
    ) -> Matrix:
        """Columns `start:stop` of this matrix, of all or a range of its rows: (m, width).

        Into `out` (m, width) where given, less `origin` (width,) where given.
        """
        first = self.columns.start
        wanted = slice(first + columns.start, first + columns.stop)
        return self.store.read_columns(self.rows[rows], wanted, out=out, origin=origin)

    def take(self, positions: npt.ArrayLike) -> AdapterVectors:
        """The same columns of some of the rows, by position."""
        return AdapterVectors(self.store, self.rows[np.asarray(positions)], self.columns)


@dataclass(frozen=True)
class UnionVectors:
    """The vectors of some adapters, cut to any sub-network: ranges of columns side by side."""

    parts: tuple[AdapterVectors, ...]
    """The same rows of one store; at least one part."""

    @classmethod
    def of(
        cls, store: AdapterStore, rows: npt.ArrayLike, sub_network: str = "full"
    ) -> UnionVectors:
        """These rows of a sub-network. Raises StoreError where the adapters have none of it."""
        wanted = np.asarray(rows, np.int64).reshape(-1)
        ranges = _ranges(store, sub_network)
        return cls(tuple(AdapterVectors(store, wanted, columns) for columns in ranges))

    @property
    def store(self) -> AdapterStore:
        return self.parts[0].store

    @property
    def rows(self) -> Rows:
        """Store rows, in the order of this matrix: (n,)."""
        return self.parts[0].rows

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), sum(part.shape[1] for part in self.parts)

    @property
    def places(self) -> tuple[slice, ...]:
        """Columns of this matrix that each part has."""
        stops = tuple(accumulate(part.shape[1] for part in self.parts))
        return tuple(map(slice, (0, *stops), stops))

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, columns: slice, rows: slice = slice(None)) -> Matrix:
        """Columns `start:stop` of this matrix, of all or a range of its rows: (m, width)."""
        found = [
            part.read(slice(start - place.start, stop - place.start), rows)
            for part, place in zip(self.parts, self.places, strict=True)
            for start, stop in [(max(columns.start, place.start), min(columns.stop, place.stop))]
            if start < stop
        ]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


def _ranges(store: AdapterStore, sub_network: str) -> list[slice]:
    ranges = column_ranges(sub_network, store.layout)
    if not ranges:
        raise StoreError(
            f"{store.path} has no {sub_network} modules, only {', '.join(store.sub_networks)}"
        )
    return ranges
