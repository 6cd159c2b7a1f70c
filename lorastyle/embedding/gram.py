"""`GramSet`: the inner products of all adapters, for every representation and sub-network.

All that PCA, calibration and every PC count need. Roles are not told apart here:
any split is a slice of the same matrices, and since PCA centres its slice, no
held-out adapter influences it.

Groups of modules have the matrices; a sub-network's is the sum of those it is a union of.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.adapters.layout import TargetModule
from lorastyle.adapters.module_sets import share
from lorastyle.adapters.naming import sub_network_of_name
from lorastyle.embedding.coverage import Energies
from lorastyle.embedding.gram_files import About, Provenance, read, writing
from lorastyle.embedding.groups import Partition, sub_network_of
from lorastyle.embedding.measures import FACTORS, is_representation, measure_of, sum_names
from lorastyle.embedding.products import Gram, sum_of
from lorastyle.errors import StageError
from lorastyle.records import SUB_NETWORKS


@dataclass(frozen=True)
class GramSet:
    """Inner products of n adapters.

    `table` says who they are, in the order of the matrices: columns row (in the
    store), adapter_id, artist, genre, role, index. `sums` holds, for each sum of a
    representation (`measures.sum_names`), an (n, n) float64 matrix for each group of
    modules.
    """

    table: pd.DataFrame
    sums: Mapping[str, Mapping[str, Gram]]
    provenance: Provenance | None = None
    energies: Energies | None = None
    """Where adapters change different modules: cosines are then of those that both change."""
    groups_hold: Partition | None = None
    """Which modules the groups hold. Where None, what their names tell."""

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

    @cached_property
    def partition(self) -> Partition:
        """Which modules the groups hold."""
        if self.groups_hold is not None:
            return self.groups_hold
        targets = None
        if self.energies is not None:
            targets = [
                TargetModule(name, sub_network_of_name(name) or "", 0, 0)
                for name in self.energies.modules
            ]
        return Partition.of_names(self.groups, targets)

    @property
    def targets(self) -> tuple[TargetModule, ...]:
        """All modules of the adapters' layout; 0 features where only their names are known."""
        return self.partition.targets

    def share(self, expression: str) -> float:
        """Part of the parameters that lies in these modules; NaN where sizes are not known."""
        known = self.partition.sizes_are_known
        return share(expression, self.targets) if known else math.nan

    def has(self, representation: str, expression: str) -> bool:
        """Whether `matrix` has an answer. Raises ConfigError for what is no expression."""
        return representation in self.representations and bool(self.partition.union(expression))

    def matrix(self, representation: str, expression: str) -> Gram:
        """The Gram matrix (n, n) of a representation, on the modules that an expression names.

        `factors`: inner products about an arbitrary origin; `delta`: cosines of
        the updates; `delta-aligned`: cosines against what the row spaces allow.
        Raises StageError where it is not there, ConfigError for what is no expression.
        """
        absent = f"there is no Gram matrix for {representation}/{expression}"
        if representation not in self.representations:
            raise StageError(
                f"{absent}, only for {', '.join(self.representations)}; "
                "add it to the embedding settings and embed again"
            )
        groups = self.partition.union(expression)
        if groups is None:
            raise StageError(
                f"{absent}, which is no union of the {len(self.groups)} groups of modules that "
                "have one; embed again with it in embedding.sub_networks or sweep.sub_networks"
            )
        if not groups:
            raise StageError(
                f"{absent}, which names none of the {len(self.targets)} modules that the adapters "
                "have; choose another sub-network"
            )
        return self.union(representation, groups)

    def union(self, representation: str, groups: Iterable[str]) -> Gram:
        """The Gram matrix (n, n) of any groups of modules together: inner products add up."""
        groups = list(groups)
        sums = [
            sum_of(self.sums[name][group] for group in groups) for name in sum_names(representation)
        ]
        if representation == FACTORS:
            return sums[0]
        energies = None
        if self.energies is not None:
            members = self.partition.members
            energies = self.energies.within([name for one in groups for name in members[one]])
        return measure_of(representation).similarity(sums, energies)

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
        with writing(directory) as folder:
            for name, parts in self.sums.items():
                for group, gram in parts.items():
                    folder.add(name, group, gram)
            folder.finish(About(self.table, self.groups_hold, self.provenance, self.energies))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote; matrices stay on disk until they are used.

        Raises StageError where there is nothing, or nothing that can be read.
        """
        about, sums = read(directory)
        return cls(about.table, sums, about.provenance, about.energies, about.partition)
