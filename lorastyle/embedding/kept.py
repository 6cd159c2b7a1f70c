"""What is wanted of the adapters, and what earlier matrices hold of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.embedding.blocks import origin_rows
from lorastyle.embedding.coverage import Energies
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_pass import matrix_name
from lorastyle.embedding.groups import Groups, Partition, layout_modules, refines
from lorastyle.embedding.measures import sum_names
from lorastyle.errors import StageError
from lorastyle.records import digest
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.cohorts import Source

Positions = npt.NDArray[np.int64]

NUMERICS_VERSION = 2
"""Raised when the same weights would give other bits: sums of two versions are not mixed."""


@dataclass(frozen=True)
class Wanted:
    """The adapters to be embedded, and the matrices that are wanted of them."""

    store: Source
    table: pd.DataFrame
    checksums: Sequence[str]
    """Of the adapters' weights, in the order of the table."""
    representations: Sequence[str]
    groups: Groups

    @property
    def rows(self) -> Positions:
        return self.table["row"].to_numpy(np.int64)

    @property
    def weights(self) -> list[tuple[int, str]]:
        """Row and checksum of each adapter: the same pair, the same products."""
        return list(zip(self.rows.tolist(), self.checksums, strict=True))

    @property
    def identity(self) -> str:
        """What the store's numbers mean."""
        if isinstance(self.store, AdapterStore):
            return digest([NUMERICS_VERSION, self.store.layout.hash(), self.store.alpha])
        return digest([NUMERICS_VERSION, self.store.meaning])

    @property
    def energies(self) -> Energies | None:
        """Of the adapters' modules, where some may lack modules that others have."""
        if isinstance(self.store, AdapterStore):
            return None
        return Energies(self.store.module_names, self.store.energies(self.rows))


@dataclass(frozen=True)
class Kept:
    """The part of earlier matrices that is still true; none of it, where `grams` is None."""

    grams: GramSet | None
    groups: Groups
    """Of the matrices there will be: the earlier ones, where those are fine enough."""
    before: Positions
    """Where the kept adapters are in the earlier matrices."""
    now: Positions
    """Where they are among the wanted adapters."""
    origin: Positions
    """Rows about whose median products are taken."""
    missing: frozenset[str] = frozenset()
    """Matrices that are not there, of adapters that all are."""

    @property
    def is_everything(self) -> bool:
        """Whether the earlier matrices are of the wanted adapters, in their order."""
        if self.grams is None:
            return False
        everyone = np.arange(len(self.grams.rows))
        return np.array_equal(self.before, everyone) and np.array_equal(self.now, everyone)

    def lacks(self, wanted: Wanted) -> list[str]:
        """Names of the matrices that the earlier ones do not have."""
        sums = {} if self.grams is None else self.grams.sums
        return [
            matrix_name(representation, group)
            for representation in wanted.representations
            for group in self.groups
            if not all(group in sums.get(name, ()) for name in sum_names(representation))
        ]

    @classmethod
    def none(cls, wanted: Wanted) -> Kept:
        nothing = np.zeros(0, np.int64)
        return cls(None, wanted.groups, nothing, nothing, origin_rows(wanted.rows))


def kept_of(wanted: Wanted, directory: Path) -> Kept:
    """What earlier matrices hold of the wanted ones."""
    none = Kept.none(wanted)
    try:
        grams = GramSet.load(directory)
    except StageError:
        return none
    of = grams.provenance
    if of is None or of.store != wanted.identity:
        return none
    earlier = zip(grams.rows.tolist(), of.checksums, strict=True)
    place = {weights: position for position, weights in enumerate(earlier)}
    found = [(place[key], i) for i, key in enumerate(wanted.weights) if key in place]
    before, now = np.array(found, np.int64).reshape(-1, 2).T
    kept_rows = set(wanted.rows[now].tolist())
    if not kept_rows.issuperset(of.origin):
        return none
    groups = _kept_groups(wanted, grams)
    kept = Kept(grams, groups or wanted.groups, before, now, np.array(of.origin, np.int64))
    missing = kept.lacks(wanted)
    n_new = len(wanted.rows) - len(now)
    if n_new == 0:
        is_something_kept = len(missing) < len(wanted.representations) * len(kept.groups)
        return replace(kept, missing=frozenset(missing)) if is_something_kept else none
    # New rows cost twice what a symmetric product costs them: with many, all anew is cheaper.
    few_new = 2 * n_new < len(wanted.rows)
    return kept if few_new and not missing else none


def _kept_groups(wanted: Wanted, grams: GramSet) -> Groups | None:
    """The earlier groups, where the wanted ones are unions of them."""
    layout = wanted.store.layout
    members = grams.partition.members
    if grams.groups_hold is None:
        members = Partition.of_names(grams.groups, layout.targets).members
    if not refines(members, Partition.of(layout, wanted.groups).members):
        return None
    modules = layout_modules(layout)
    return {name: [modules[module] for module in members[name]] for name in grams.groups}
