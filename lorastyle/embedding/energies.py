"""Squared norms of stored updates, module by module: what cosines of unequal adapters need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lorastyle.embedding.coverage import Energies, Matrix
from lorastyle.embedding.delta_products import modules_by_name
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.cohorts import Source

ROWS_AT_ONCE = 256


def energies_of(source: Source, rows: npt.ArrayLike) -> Energies:
    """Of these adapters: a pass over a store of trained ones, a look into records of others."""
    wanted = np.asarray(rows, np.int64).reshape(-1)
    if not isinstance(source, AdapterStore):
        return Energies(source.module_names, source.energies(wanted))
    parts = [
        _read_energies(source, wanted[first : first + ROWS_AT_ONCE])
        for first in range(0, len(wanted), ROWS_AT_ONCE)
    ]
    names = source.layout.modules
    return Energies(names, np.concatenate(parts) if parts else np.zeros((0, len(names))))


def _read_energies(store: AdapterStore, rows: Sequence[int] | npt.NDArray[np.int64]) -> Matrix:
    energies = np.empty((len(rows), len(store.layout.modules)))
    for column, module in enumerate(modules_by_name(store, store.layout.modules)):
        tile = store.read_columns(rows, module.columns)
        lora_A, lora_B = module.factors(tile, module.columns.start)
        down, up = lora_A @ lora_A.mT, lora_B.mT @ lora_B
        energies[:, column] = (down * up).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(np.maximum(energies, 0.0) * store.scaling**2)
