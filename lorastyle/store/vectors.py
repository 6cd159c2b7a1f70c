"""`AdapterVectors`: an (n, p) matrix that stays on disk, some rows and columns of a store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
        """These rows of a sub-network. Raises StoreError where the adapters have none of it."""
        ranges = store.layout.columns(sub_network)
        if not ranges:
            raise StoreError(
                f"{store.path} has no {sub_network} modules, only {', '.join(store.sub_networks)}"
            )
        # The layout keeps each sub-network in one contiguous range.
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
