"""The folder `grams`: written one matrix at a time; which matrices it has, its index says.

    grams/index.json                      which matrices, of which modules and weights
    grams/rows.parquet                    who the adapters are, in the matrices' order
    grams/REPRESENTATION.GROUP.npy        (n, n) float64
    grams/energies.npy                    (n, n_modules), where adapters change different modules

A group is a sub-network, or SUBNETWORK+DIGEST for a part of one.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.adapters.layout import TargetModule
from lorastyle.embedding.coverage import Energies
from lorastyle.embedding.groups import Partition
from lorastyle.embedding.products import Gram
from lorastyle.errors import StageError
from lorastyle.runs import write_array, write_json, write_parquet

DIRECTORY = "grams"
INDEX_FILE = "index.json"
ROWS_FILE = "rows.parquet"
ENERGIES_FILE = "energies.npy"
GRAMS_VERSION = 3
READABLE = (2, 3)
"""Version 2 does not say which modules a group holds: its groups are whole sub-networks."""


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
class About:
    """What a folder says besides its matrices."""

    table: pd.DataFrame
    partition: Partition | None
    provenance: Provenance | None
    energies: Energies | None


class Contents(NamedTuple):
    """A folder that was read.

    Matrices are mapped: on disk until used, and the same even after the folder is replaced.
    """

    about: About
    sums: dict[str, Mapping[str, Gram]]


@dataclass(frozen=True)
class GramWriter:
    """A folder that is being written. Cheap: no matrix is kept."""

    place: Path
    sums: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, group: str, gram: Gram) -> None:
        """Write one sum (n, n) of a group of modules."""
        write_array(self.place / _file_name(name, group), gram)
        self.sums.setdefault(name, []).append(group)

    def take_over(self, name: str, group: str, directory: Path) -> None:
        """The same sum as the folder in `directory` has it: another name of the same file."""
        file = _file_name(name, group)
        self.place.mkdir(parents=True, exist_ok=True)
        try:
            os.link(directory / DIRECTORY / file, self.place / file)
        except OSError:  # a file system without hard links
            shutil.copyfile(directory / DIRECTORY / file, self.place / file)
        self.sums.setdefault(name, []).append(group)

    def finish(self, about: About) -> None:
        """Write what the matrices are; the last step."""
        energies, partition = about.energies, about.partition
        write_parquet(self.place / ROWS_FILE, about.table)
        if energies is not None:
            write_array(self.place / ENERGIES_FILE, energies.values)
        index = {
            "version": GRAMS_VERSION,
            "sums": self.sums,
            "groups": None if partition is None else dict(partition.members),
            "targets": None if partition is None else partition.targets,
            "modules": None if energies is None else list(energies.modules),
            "provenance": None if about.provenance is None else asdict(about.provenance),
        }
        write_json(self.place / INDEX_FILE, index)


@contextmanager
def writing(directory: Path) -> Iterator[GramWriter]:
    """A new folder `grams` in a directory; an earlier one is replaced when the block ends well."""
    place = directory / DIRECTORY
    aside = directory / f".{DIRECTORY}.{uuid.uuid4().hex}.tmp"
    try:
        yield GramWriter(aside)
        replaced = aside.with_suffix(".old")
        if place.exists():
            place.rename(replaced)
        aside.rename(place)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read(directory: Path) -> Contents:
    """What `writing` left. Raises StageError where there is nothing, or nothing readable."""
    place = directory / DIRECTORY
    try:
        index = json.loads((place / INDEX_FILE).read_text(encoding="utf-8"))
        if index["version"] not in READABLE:
            raise ValueError(f"version {index['version']}")
        table = pd.read_parquet(place / ROWS_FILE)
        shape = len(table), len(table)
        sums: dict[str, Mapping[str, Gram]] = {
            name: {group: _read_matrix(place / _file_name(name, group), shape) for group in groups}
            for name, groups in index["sums"].items()
        }
        energies = _read_energies(place, index.get("modules"), len(table))
        provenance = index["provenance"] and _provenance(index["provenance"])
        about = About(table, _partition(index), provenance, energies)
    except OSError as error:
        raise StageError(
            f"{directory} has no Gram matrices; run `lorastyle embed RUN` first"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"the Gram matrices in {place} cannot be read ({error}); "
            "delete the folder and run `lorastyle embed RUN --force`"
        ) from error
    return Contents(about, sums)


def _read_matrix(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    # Not np.load, which would also open zip archives and pickles.
    matrix = np.lib.format.open_memmap(path, mode="r")
    if matrix.shape != shape or matrix.dtype != np.float64:
        raise ValueError(f"{path.name} is {matrix.dtype} {matrix.shape}, not float64 {shape}")
    return np.asarray(matrix)


def _read_energies(place: Path, modules: Sequence[str] | None, n: int) -> Energies | None:
    if modules is None:
        return None
    return Energies(tuple(modules), _read_matrix(place / ENERGIES_FILE, (n, len(modules))))


def _partition(index: Mapping[str, Any]) -> Partition | None:
    if index.get("groups") is None:
        return None
    targets = tuple(
        TargetModule(str(name), str(sub_network), int(n_out), int(n_in))
        for name, sub_network, n_out, n_in in index["targets"]
    )
    members = {str(group): tuple(modules) for group, modules in index["groups"].items()}
    if set(members) != {group for groups in index["sums"].values() for group in groups}:
        raise ValueError("its groups are not those of its matrices")
    return Partition(targets, members)


def _provenance(values: Mapping[str, Any]) -> Provenance:
    return Provenance(values["store"], tuple(values["checksums"]), tuple(values["origin"]))


def _file_name(name: str, group: str) -> str:
    return f"{name}.{group.replace('/', '+')}.npy"
