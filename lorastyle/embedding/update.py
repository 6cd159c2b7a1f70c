"""`update_grams`: the Gram matrices of a store that may have grown since they were made.

Products are kept while the weights they were made of are the same: only new rows
are multiplied, each with all others. A run of 1,890 adapters that grows by 10 reads
the store once more, and multiplies a hundredth.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_files import About, Provenance, writing
from lorastyle.embedding.gram_pass import Gram, GramPass, matrix_name
from lorastyle.embedding.groups import Partition
from lorastyle.embedding.kept import Kept, Positions, Wanted, kept_of
from lorastyle.embedding.ledger import DirectoryLedger, Ledger
from lorastyle.embedding.measures import sum_names
from lorastyle.embedding.summing import Scheduler
from lorastyle.progress import progress
from lorastyle.records import digest

LEDGER = "pass"


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
    kept = kept_of(wanted, directory)
    order = np.concatenate([kept.now, np.setdiff1d(np.arange(len(wanted.rows)), kept.now)])
    n_new = len(order) - len(kept.now)
    ledger = ledger or DirectoryLedger(directory / LEDGER)
    planned = None
    record: dict[str, Any] = {"n_adapters": len(order), "n_new": n_new}
    if n_new or kept.missing:
        planned = _planned(wanted, kept, order, memory_gib, threads=scheduler is None)
        ledger = ledger.begin(_identity(wanted, kept, order, planned))
        record |= _carry_out(planned, ledger, scheduler)
    with writing(directory) as folder:
        for representation, group in product(wanted.representations, kept.groups):
            found: Mapping[str, Gram] = {}
            if planned and matrix_name(representation, group) in planned.tasks:
                found = planned.finished(ledger, representation, group)
            for name in sum_names(representation):
                if not found and kept.is_everything:
                    folder.take_over(name, group, directory)
                else:
                    folder.add(name, group, _assembled(kept, order, found.get(name), name, group))
        folder.finish(_about(wanted, kept))
    # Only now: until the matrices are there, a killed process continues from the ledger.
    ledger.clear()
    return Update(GramSet.load(directory), record)


def _about(wanted: Wanted, kept: Kept) -> About:
    origin = tuple(kept.origin.tolist())
    provenance = Provenance(wanted.identity, tuple(wanted.checksums), origin)
    partition = Partition.of(wanted.store.layout, kept.groups)
    return About(wanted.table, partition, provenance, wanted.energies)


def _planned(
    wanted: Wanted, kept: Kept, order: Positions, memory_gib: float, *, threads: bool
) -> GramPass:
    return GramPass.of(
        wanted.store,
        wanted.rows[order],
        wanted.representations,
        groups=kept.groups,
        n_kept=0 if kept.missing else len(kept.now),
        origin=kept.origin,
        only=kept.missing or None,
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
    if strip is not None and len(strip) == n:
        return strip
    assert kept.grams is not None
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
