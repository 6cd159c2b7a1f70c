"""`GramSet`: the inner products of all adapters, for every representation and sub-network.

All that PCA, calibration and every PC count need. Roles are not told apart here:
any split is a slice of the same matrices, and since PCA centres its slice, no
held-out adapter influences it.

    grams/index.json                      which matrices, of which weights
    grams/rows.parquet                    who the adapters are, in the matrices' order
    grams/REPRESENTATION.GROUP.npy        (n, n) float64
    grams/energies.npy                    (n, n_modules), where adapters change different modules
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.embedding.coverage import Energies
from lorastyle.embedding.groups import group_of, sub_network_of
from lorastyle.embedding.measures import MEASURES, is_representation, sum_names
from lorastyle.embedding.products import Gram, sum_of
from lorastyle.errors import StageError
from lorastyle.records import SUB_NETWORKS
from lorastyle.runs import write_array, write_json, write_parquet

DIRECTORY = "grams"
INDEX_FILE = "index.json"
ROWS_FILE = "rows.parquet"
ENERGIES_FILE = "energies.npy"
GRAMS_VERSION = 2


@dataclass(frozen=True)
class Provenance:
    """Of which weights the products are: where all of it agrees they need not be made again."""

    store: str
    """Digest of what the store's vectors mean: layout and alpha."""
    checksums: tuple[str, ...]
    """Of each adapter's weights, in the order of the matrices."""
    origin: tuple[int, ...]
    """Store rows about whose median the factors' products were taken."""


@dataclass(frozen=True)
class GramSet:
    """Inner products of n adapters.

    `table` says who they are, in the order of the matrices: columns row (in the
    store), adapter_id, artist, genre, role, index. `sums` holds, for each sum of a
    representation (`measures.sum_names`), an (n, n) float64 matrix for each group of
    modules: a sub-network, or `SUBNETWORK/MODULE`.
    """

    table: pd.DataFrame
    sums: Mapping[str, Mapping[str, Gram]]
    provenance: Provenance | None = None
    energies: Energies | None = None
    """Where adapters change different modules: cosines are then of those that both change."""

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Store rows, in the order of the matrices: (n,)."""
        return self.table["row"].to_numpy(np.int64)

    @property
    def representations(self) -> tuple[str, ...]:
        return tuple(name for name in self.sums if is_representation(name))

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of modules that have a matrix of their own."""
        first: Mapping[str, Gram] = next(iter(self.sums.values()))
        return tuple(first)

    @property
    def sub_networks(self) -> tuple[str, ...]:
        """`full` and the sub-networks that the adapters have."""
        there = {sub_network_of(group) for group in self.groups}
        return ("full", *(name for name in SUB_NETWORKS if name in there))

    def matrix(self, representation: str, sub_network: str) -> Gram:
        """The Gram matrix (n, n) of a representation and sub-network.

        `factors`: inner products about an arbitrary origin; `delta`: cosines of
        the updates; `delta-aligned`: cosines against what the row spaces allow.
        Raises StageError naming what there is instead.
        """
        if representation not in self.representations or sub_network not in self.sub_networks:
            raise StageError(
                f"there is no Gram matrix for {representation}/{sub_network}, only for "
                f"{', '.join(self.representations)} of {', '.join(self.sub_networks)}; "
                "add it to the embedding settings and embed again"
            )
        return self.union(
            representation,
            [name for name in self.groups if sub_network in ("full", sub_network_of(name))],
        )

    def union(self, representation: str, groups: Iterable[str]) -> Gram:
        """The Gram matrix (n, n) of any groups of modules together: inner products add up."""
        groups = list(groups)
        sums = [
            sum_of([self.sums[name][group] for group in groups])
            for name in sum_names(representation)
        ]
        if representation not in MEASURES:
            return sums[0]
        energies = None
        if self.energies is not None:
            energies = self.energies.within(self._modules_of(groups))
        return MEASURES[representation].similarity(sums, energies)

    def _modules_of(self, groups: Iterable[str]) -> list[str]:
        assert self.energies is not None
        wanted = set(groups)
        return [name for name in self.energies.modules if group_of(name, wanted) is not None]

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
            for group, gram in parts.items():
                total.update(f"{representation}/{group}".encode())
                total.update(np.ascontiguousarray(gram, "<f8").data)
        if self.energies is not None:
            total.update(np.ascontiguousarray(self.energies.values, "<f8").data)
        return total.hexdigest()

    def save(self, directory: Path) -> None:
        """Write the folder `grams`; an earlier one is replaced when all is written."""
        place = directory / DIRECTORY
        aside = directory / f".{DIRECTORY}.{uuid.uuid4().hex}.tmp"
        try:
            self._write(aside)
            replaced = aside.with_suffix(".old")
            if place.exists():
                place.rename(replaced)
            aside.rename(place)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _write(self, directory: Path) -> None:
        for representation, parts in self.sums.items():
            for group, gram in parts.items():
                write_array(directory / _file_name(representation, group), gram)
        write_parquet(directory / ROWS_FILE, self.table)
        if self.energies is not None:
            write_array(directory / ENERGIES_FILE, self.energies.values)
        index = {
            "version": GRAMS_VERSION,
            "sums": {name: list(parts) for name, parts in self.sums.items()},
            "modules": None if self.energies is None else list(self.energies.modules),
            "provenance": None if self.provenance is None else asdict(self.provenance),
        }
        write_json(directory / INDEX_FILE, index)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote; matrices stay on disk until they are used.

        Raises StageError where there is nothing, or nothing that can be read.
        """
        place = directory / DIRECTORY
        try:
            index = json.loads((place / INDEX_FILE).read_text(encoding="utf-8"))
            if index["version"] != GRAMS_VERSION:
                raise ValueError(f"version {index['version']}")
            table = pd.read_parquet(place / ROWS_FILE)
            sums = {
                representation: {
                    group: _read_gram(place / _file_name(representation, group), len(table))
                    for group in groups
                }
                for representation, groups in index["sums"].items()
            }
            provenance = index["provenance"] and _provenance(index["provenance"])
            energies = _read_energies(place, index.get("modules"), len(table))
        except OSError as error:
            raise StageError(
                f"{directory} has no Gram matrices; run `lorastyle embed RUN` first"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise StageError(
                f"the Gram matrices in {place} cannot be read ({error}); "
                "delete the folder and run `lorastyle embed RUN --force`"
            ) from error
        return cls(table, sums, provenance, energies)


def _read_gram(path: Path, n: int) -> Gram:
    return _read_matrix(path, (n, n))


def _read_energies(place: Path, modules: Sequence[str] | None, n: int) -> Energies | None:
    if modules is None:
        return None
    return Energies(tuple(modules), _read_matrix(place / ENERGIES_FILE, (n, len(modules))))


def _read_matrix(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    # Not np.load, which would also open zip archives and pickles.
    matrix = np.lib.format.open_memmap(path, mode="r")
    if matrix.shape != shape or matrix.dtype != np.float64:
        raise ValueError(f"{path.name} is {matrix.dtype} {matrix.shape}, not float64 {shape}")
    return np.asarray(matrix)


def _provenance(values: Mapping[str, Any]) -> Provenance:
    return Provenance(values["store"], tuple(values["checksums"]), tuple(values["origin"]))


def _file_name(representation: str, group: str) -> str:
    return f"{representation}.{group.replace('/', '+')}.npy"
