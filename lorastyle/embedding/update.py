"""`update_grams`: the Gram matrices of a store that may have grown since they were made.

Products are kept while the weights they were made of are the same: only new rows
are multiplied, each with all others. A run of 1,890 adapters that grows by 10 reads
the store once more, and multiplies a hundredth.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.embedding.blocks import origin_rows
from lorastyle.embedding.coverage import Energies
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_files import About, Provenance, writing
from lorastyle.embedding.gram_pass import Gram, GramPass, Scheduler
from lorastyle.embedding.groups import Groups, Partition, layout_modules, refines
from lorastyle.embedding.ledger import DirectoryLedger, Ledger
from lorastyle.embedding.measures import sum_names
from lorastyle.errors import StageError
from lorastyle.progress import progress
from lorastyle.records import digest
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.cohorts import Source

Positions = npt.NDArray[np.int64]

LEDGER = "pass"
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

    @classmethod
    def none(cls, wanted: Wanted) -> Kept:
        nothing = np.zeros(0, np.int64)
        return cls(None, wanted.groups, nothing, nothing, origin_rows(wanted.rows))


@dataclass(frozen=True)
class Update:
    """The matrices, and what making them took."""

    grams: GramSet
    record: Mapping[str, Any]


def update_grams(
    wanted: Wanted,
    directory: Path,
    *,
    memory_gib: float = 1.0,
    scheduler: Scheduler | None = None,
    ledger: Ledger | None = None,
) -> Update:
    """Write the wanted matrices to `directory`, from what is there and one pass over the store.

    What is there may be finer than the wanted groups: it is then kept as it is. One matrix at a
    time is in memory. Killed and called again, it continues, from `ledger` (default: one in the
    directory).
    The record says how many adapters were new, and what the pass read and took, over all
    attempts. Raises StoreError for damaged rows, StageError where the memory is too small.
    """
    kept = _kept(wanted, directory)
    order = np.concatenate([kept.now, np.setdiff1d(np.arange(len(wanted.rows)), kept.now)])
    n_new = len(order) - len(kept.now)
    ledger = ledger or DirectoryLedger(directory / LEDGER)
    planned = None
    record: dict[str, Any] = {"n_adapters": len(order), "n_new": n_new}
    if n_new:
        planned = _planned(wanted, kept, order, memory_gib, threads=scheduler is None)
        ledger.begin(_identity(wanted, kept, order, planned))
        record |= _carry_out(planned, ledger, scheduler)
    with writing(directory) as folder:
        for representation, group in product(wanted.representations, kept.groups):
            strips = planned.finished(ledger, representation, group) if planned else {}
            for name in sum_names(representation):
                folder.add(name, group, _assembled(kept, order, strips.get(name), name, group))
        folder.finish(_about(wanted, kept))
    # Only now: until the matrices are there, a killed process continues from the ledger.
    ledger.clear()
    return Update(GramSet.load(directory), record)


def _about(wanted: Wanted, kept: Kept) -> About:
    origin = tuple(kept.origin.tolist())
    provenance = Provenance(wanted.identity, tuple(wanted.checksums), origin)
    partition = Partition.of(wanted.store.layout, kept.groups)
    return About(wanted.table, partition, provenance, wanted.energies)


def _kept(wanted: Wanted, directory: Path) -> Kept:
    """What earlier matrices hold of the wanted ones."""
    none = Kept.none(wanted)
    try:
        grams = GramSet.load(directory)
    except StageError:
        return none
    of = grams.provenance
    if of is None or of.store != wanted.identity:
        return none
    if not set(wanted.representations) <= set(grams.representations):
        return none
    groups = _kept_groups(wanted, grams)
    if groups is None:
        return none
    earlier = zip(grams.rows.tolist(), of.checksums, strict=True)
    place = {weights: position for position, weights in enumerate(earlier)}
    found = [(place[key], i) for i, key in enumerate(wanted.weights) if key in place]
    before, now = np.array(found, np.int64).reshape(-1, 2).T
    kept_rows = set(wanted.rows[now].tolist())
    # New rows cost twice what a symmetric product costs them: with many, all anew is cheaper.
    few_new = 2 * (len(wanted.rows) - len(now)) < len(wanted.rows)
    if not few_new or not kept_rows.issuperset(of.origin):
        return none
    return Kept(grams, groups, before, now, np.array(of.origin, np.int64))


def _kept_groups(wanted: Wanted, grams: GramSet) -> Groups | None:
    """The earlier groups, where the wanted ones are unions of them."""
    layout = wanted.store.layout
    members = grams.partition.members
    if grams.groups_hold is None:
        members = Partition.of_names(grams.groups, layout.modules).members
    if not refines(members, Partition.of(layout, wanted.groups).members):
        return None
    modules = layout_modules(layout)
    return {name: [modules[module] for module in members[name]] for name in grams.groups}


def _planned(
    wanted: Wanted, kept: Kept, order: Positions, memory_gib: float, *, threads: bool
) -> GramPass:
    return GramPass.of(
        wanted.store,
        wanted.rows[order],
        wanted.representations,
        groups=kept.groups,
        n_kept=len(kept.now),
        origin=kept.origin,
        memory_gib=memory_gib,
        threads=threads,
    )


def _identity(wanted: Wanted, kept: Kept, order: Positions, planned: GramPass) -> str:
    weights = [wanted.weights[position] for position in order]
    sizes = {name: len(parts) for name, parts in planned.tasks.items()}
    return digest([wanted.identity, weights, len(kept.now), kept.origin.tolist(), sizes])


def _carry_out(planned: GramPass, ledger: Ledger, scheduler: Scheduler | None) -> dict[str, Any]:
    saved = planned.n_saved(ledger)
    n_saved = sum(saved.values())
    begun = time.monotonic()
    with progress("embed", planned.n_segments, "segments") as shown:
        if n_saved:
            shown.advance(n_saved)
        planned.fill(ledger, scheduler, shown, saved)
    receipts = ledger.receipts()
    return {
        "n_segments": planned.n_segments,
        "n_resumed": n_saved,
        "wall_s": round(time.monotonic() - begun, 3),
        "bytes_read": sum(receipt["bytes"] for receipt in receipts),
        "read_s": round(sum(receipt["read_s"] for receipt in receipts), 3),
        "product_s": round(sum(receipt["product_s"] for receipt in receipts), 3),
        "n_workers": planned.share.n_workers,
    }


def _assembled(
    kept: Kept,
    order: Positions,
    strip: Gram | None,
    name: str,
    group: str,
) -> Gram:
    """Kept products and a strip of new ones as one matrix (n, n), in the order of the table."""
    n, n_kept = len(order), len(kept.now)
    if kept.grams is None:
        assert strip is not None
        return strip
    whole = np.empty((n, n))
    before = kept.grams.sums[name][group]
    whole[:n_kept, :n_kept] = before[np.ix_(kept.before, kept.before)]
    if strip is not None:
        whole[n_kept:] = strip
        whole[:n_kept, n_kept:] = strip[:, :n_kept].T
        square = whole[n_kept:, n_kept:]
        square[:] = (square + square.T) / 2
    result = np.empty((n, n))
    result[np.ix_(order, order)] = whole
    return result
