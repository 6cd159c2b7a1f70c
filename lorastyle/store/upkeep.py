"""Looking after the stores of a run: what `lorastyle store` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from lorastyle.corpus.stage import read_plan
from lorastyle.errors import StoreError
from lorastyle.progress import progress
from lorastyle.records import AdapterSpec
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from lorastyle.store.census import Census, take_census
from lorastyle.store.epochs import EPOCHS, Epoch, EpochLog
from lorastyle.store.ingested import IngestedStore
from lorastyle.store.scrub import Examination, examine, rows_of, set_aside


class Shelf(NamedTuple):
    """One of a run's stores."""

    name: str
    store: AdapterStore
    stage: str
    """What fills it: `train` or `ingest`."""


@dataclass(frozen=True)
class Scrubbed:
    """What a scrub found in one store, and did."""

    name: str
    stage: str
    found: Examination
    requeued: list[int]
    """The bad rows that are absent now."""
    n_swept: int
    """Temporary files of killed writers, removed if anything was."""


def shelves(run: Run) -> Iterator[Shelf]:
    """The stores of a run that are there."""
    if run.has_store:
        yield Shelf("adapters.zarr", AdapterStore.open(run.store_path), "train")
    ingested = IngestedStore.find(run.ingested_path)
    for rank, store in sorted(ingested.stores.items()) if ingested else ():
        yield Shelf(f"ingested/rank-{rank:03d}.zarr", store, "ingest")


def scrub_run(run: Run, *, requeue: bool = True, sample: int | None = None) -> list[Scrubbed]:
    """Look at every row of every store, or at a sample; with `requeue` set bad rows aside.

    The stage that fills a store is unfinished from then on: the same command that
    filled it makes exactly those rows. Raises StoreError where the run has no store.
    """
    scrubbed = [_scrub(run, shelf, requeue, sample) for shelf in _present(run)]
    if requeue:
        _notice_changes(run)
    return scrubbed


def _scrub(run: Run, shelf: Shelf, requeue: bool, sample: int | None) -> Scrubbed:
    store = shelf.store
    _ = store.initial  # raises where it is not the one that every adapter started from
    with progress(f"scrub {shelf.name}", len(rows_of(store, sample)), "rows") as shown:
        found = examine(store, sample=sample, shown=shown)
    if requeue and found.bad:
        # First, or a scrub that is killed in between leaves a stage that looks finished.
        run.forget(shelf.stage)
    requeued = set_aside(store, found.bad) if requeue else []
    return Scrubbed(shelf.name, shelf.stage, found, requeued, store.sweep(remove=requeue))


def _notice_changes(run: Run) -> None:
    """Training that is recorded as finished, of a store that has changed since, is not."""
    recorded = run.manifest("train")
    if recorded is None or not run.has_store:
        return
    if recorded["outputs"].get("store") != digest_of_contents(AdapterStore.open(run.store_path)):
        run.forget("train")


@dataclass(frozen=True)
class Standing:
    """How a run's stores stand."""

    stores: dict[str, Census]
    """By name."""
    epoch: Epoch | None
    """The attempt that may write, where one was ever claimed."""
    n_stale: int
    """Temporary files of killed writers."""


def standing(run: Run) -> Standing:
    """Count the rows of a run's stores. Raises StoreError where it has none."""
    present = list(_present(run))
    specs = _planned(run)
    return Standing(
        {
            shelf.name: take_census(shelf.store, specs if shelf.stage == "train" else None)
            for shelf in present
        },
        EpochLog(run.place.child(EPOCHS)).latest(),
        sum(shelf.store.sweep(remove=False) for shelf in present),
    )


def _present(run: Run) -> list[Shelf]:
    present = list(shelves(run))
    if not present:
        raise StoreError(f"{run.location} has no adapters yet; train or ingest some")
    return present


def _planned(run: Run) -> list[AdapterSpec] | None:
    if not run.is_planned or run.manifest("plan") is None:
        return None
    run.pull("plan")
    return read_plan(run)


def plain_census(census: Census) -> dict[str, Any]:
    """Plain values."""
    return {
        "by_status": dict(sorted(census.by_status.items())),
        "by_role": {role: dict(counts) for role, counts in census.by_role.items()},
        "failed": [
            {"row": one.row, "adapter_id": one.spec.get("adapter_id"), "reason": one.reason}
            for one in census.failed
        ],
        "writing": census.writing,
        "requeued": [{"row": one.row, "reason": one.reason} for one in census.requeued],
        "damaged_records": census.damaged,
        "missing": census.missing,
        "unexpected": census.unexpected,
        "bytes": census.n_bytes,
    }
