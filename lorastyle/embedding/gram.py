"""`GramSet`: the inner products of all adapters, for every representation and sub-network.

All that PCA, calibration and every PC count need. Roles are not told apart here:
any split is a slice of the same matrices, and since PCA centres its slice, no
held-out adapter influences it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.adapters.kernel import cosine_of
from lorastyle.embedding.products import Gram, sum_of
from lorastyle.errors import StageError
from lorastyle.records import SUB_NETWORKS
from lorastyle.runs import write_atomically, write_parquet

GRAMS_FILE = "grams.npz"
ROWS_FILE = "rows.parquet"


@dataclass(frozen=True)
class GramSet:
    """Inner products of n adapters.

    `table` says who they are, in the order of the matrices: columns row (in the
    store), adapter_id, artist, genre, role, index. `sums` holds, for each
    representation, an (n, n) float64 matrix for each of the three sub-networks
    that the layout has.
    """

    table: pd.DataFrame
    sums: Mapping[str, Mapping[str, Gram]]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Store rows, in the order of the matrices: (n,)."""
        return self.table["row"].to_numpy(np.int64)

    @property
    def representations(self) -> tuple[str, ...]:
        return tuple(self.sums)

    @property
    def sub_networks(self) -> tuple[str, ...]:
        """`full` and the sub-networks that the adapters have."""
        first: Mapping[str, Gram] = next(iter(self.sums.values()))
        return ("full", *(name for name in SUB_NETWORKS if name in first))

    def matrix(self, representation: str, sub_network: str) -> Gram:
        """The Gram matrix (n, n) of a representation and sub-network.

        `factors`: inner products about an arbitrary origin; `delta`: cosines of
        the updates. Raises StageError naming what there is instead.
        """
        if representation not in self.sums or sub_network not in self.sub_networks:
            raise StageError(
                f"there is no Gram matrix for {representation}/{sub_network}, only for "
                f"{', '.join(self.representations)} of {', '.join(self.sub_networks)}; "
                "add it to the embedding settings and embed again"
            )
        parts = self.sums[representation]
        gram = sum_of(list(parts.values())) if sub_network == "full" else parts[sub_network]
        return cosine_of(gram) if representation == "delta" else gram

    def positions(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Where these store rows are in the matrices: (m,). StageError for others."""
        wanted = np.asarray(rows, np.int64).reshape(-1)
        absent = [int(row) for row in wanted if int(row) not in self._position]
        if absent:
            raise StageError(
                f"{len(absent)} rows are not among the {len(self.table)} embedded adapters, "
                f"first row {absent[0]}; embed again after training"
            )
        return np.array([self._position[int(row)] for row in wanted], np.int64)

    @cached_property
    def _position(self) -> dict[int, int]:
        return {int(row): position for position, row in enumerate(self.rows)}

    def digest(self) -> str:
        """SHA-256 of the rows and of every matrix."""
        total = hashlib.sha256(self.rows.astype("<i8").tobytes())
        for representation, parts in self.sums.items():
            for sub_network, gram in parts.items():
                total.update(f"{representation}/{sub_network}".encode())
                total.update(np.ascontiguousarray(gram, "<f8").tobytes())
        return total.hexdigest()

    def save(self, directory: Path) -> None:
        """Write `grams.npz` and `rows.parquet`."""
        arrays = {
            f"{representation}/{sub_network}": gram
            for representation, parts in self.sums.items()
            for sub_network, gram in parts.items()
        }
        grams = io.BytesIO()
        np.savez(grams, allow_pickle=False, **arrays)
        write_atomically(directory / GRAMS_FILE, grams.getvalue())
        write_parquet(directory / ROWS_FILE, self.table)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote. Raises StageError where there is nothing."""
        try:
            with np.load(directory / GRAMS_FILE) as arrays:
                flat = {name: arrays[name] for name in arrays.files}
            table = pd.read_parquet(directory / ROWS_FILE)
        except OSError as error:
            raise StageError(
                f"{directory} has no Gram matrices; run `lorastyle embed RUN` first"
            ) from error
        sums: dict[str, dict[str, Gram]] = {}
        for name, gram in flat.items():
            representation, _, sub_network = name.partition("/")
            sums.setdefault(representation, {})[sub_network] = gram
        return cls(table, sums)
