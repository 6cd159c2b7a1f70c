"""Cohorts: the adapters of a matrix, grouped by the store that holds them.

Trained adapters lie in one store. Ingested ones lie in a store for each rank, and a
database of both in several: whatever multiplies updates goes cohort by cohort.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.ingested import IngestedStore, locate

Rows = npt.NDArray[np.int64]
Source = AdapterStore | IngestedStore


@dataclass(frozen=True)
class Cohort:
    """Some adapters of one store, and where they stand in a matrix. Cheap to pickle."""

    path: Path | str
    rows: Rows
    """Rows of that store."""
    places: Rows
    """Positions in the matrix, one a row."""

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, side: int) -> Iterator[Cohort]:
        """Parts of at most `side` adapters."""
        for first in range(0, len(self), side):
            part = slice(first, first + side)
            yield replace(self, rows=self.rows[part], places=self.places[part])


def cohorts_of(source: Source, rows: npt.ArrayLike) -> tuple[Cohort, ...]:
    """The cohorts of these rows, which are numbered as in the source's table."""
    wanted = np.asarray(rows, np.int64).reshape(-1)
    if isinstance(source, AdapterStore):
        return (Cohort(source.path, wanted, np.arange(len(wanted))),)
    stores = source.stores
    located = np.array([locate(int(row)) for row in wanted], np.int64).reshape(-1, 2)
    return tuple(
        Cohort(stores[int(rank)].path, located[here, 1], np.flatnonzero(here))
        for rank in np.unique(located[:, 0])
        for here in (located[:, 0] == rank,)
    )


def bytes_of(source: Source, rows: npt.ArrayLike) -> int:
    """What reading the weights of these rows reads."""
    cohorts = cohorts_of(source, rows)
    return sum(4 * AdapterStore.open(one.path).size * len(one) for one in cohorts)
