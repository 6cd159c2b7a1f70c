"""Writing a row so that its weights and its record agree, whoever else writes it.

    look     the record, its version, the shard's version
    fence    nobody has taken this attempt over
    mark     the record becomes a mark, if it still is the version seen: the row is absent
    shard    replaced, if it still is the version seen
    check    it is read back and compared with what was meant
    record   takes the mark's place, if it still is ours

Whoever finds another version than it saw begins again. The order matters: what is
replaced was looked at before the fence, so a process that slept anywhere and wakes
after a later attempt has finished the row holds versions that are gone, and changes
nothing. docs/commit-protocol.md has the argument, and what it rests on.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.layout import AdapterLayout
from lorastyle.errors import DamagedRowError, FencedError, StoreError
from lorastyle.places.tag import Tag
from lorastyle.records import digest
from lorastyle.store.commits import WRITING, CommitLog, CommitRecord, Found, checksum_of, mark
from lorastyle.store.epochs import Fence
from lorastyle.store.shards import RowShards

Vector = npt.NDArray[np.float32]

COMMIT_ATTEMPTS = 10
FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class RowWriter:
    """Writes rows with their records, and checks one against the other."""

    shards: RowShards
    commits: CommitLog
    fence: Fence | None = None

    def commit(self, record: CommitRecord, vector: Vector) -> CommitRecord:
        """Write weights (d,) and record, unless the row stands; returns what stands.

        A row stands that was made from the same spec digest and whose weights are those
        it was recorded with, even if they are not these to the last bit: another actor was
        faster. Raises FencedError once a later attempt has taken over, and StoreError where the
        row cannot be written or does not read back: it is then absent, unless
        another writer made it, and the others are as they were.
        """
        record = self._ours(record)
        for attempt in range(COMMIT_ATTEMPTS):
            began = time.monotonic()
            with _naming(record.row):
                standing = self._attempt(record, vector)
            if standing is not None:
                return standing
            _pause(attempt, time.monotonic() - began)
        raise StoreError(
            f"row {record.row} at {self.shards.path(record.row)} does not read back as written, "
            f"{COMMIT_ATTEMPTS} times; check the free space and that no other run writes there"
        )

    def _attempt(self, record: CommitRecord, vector: Vector) -> CommitRecord | None:
        """One walk through the protocol; None where another writer came between."""
        shard = self.shards.tag(record.row)
        found = self._look(record.row)
        there = found.record
        if there and there.is_current(record.spec_digest) and self.matches(there):
            return self._stamped(there, found.tag)
        marked = self.commits.write(self._mark(record), found.tag)
        if marked is None or not self.shards.replace(record.row, vector, shard):
            return None
        if not self.matches(record):
            return None
        self._check_fence()
        written = self.commits.write(record, marked.tag)
        return None if written is None else written.record

    def quarantine(self, record: CommitRecord) -> CommitRecord:
        """Record a failure, unless the row is there, of the same spec; returns what stands.

        Raises FencedError once a later attempt has taken over.
        """
        standing = self._change(
            record.row,
            lambda there: None if there and there.is_current(record.spec_digest) else record,
        )
        return standing or record

    def describe(self, row: int, spec: Mapping[str, Any]) -> CommitRecord | None:
        """Say of a committed row who it is; None where there is no such row."""

        def described(there: CommitRecord | None) -> CommitRecord | None:
            if there is None or not there.exists:
                return None
            return replace(there, spec=dict(spec), spec_digest=digest(dict(spec)))

        standing = self._change(row, described)
        return standing if standing and standing.exists else None

    def _change(
        self, row: int, changed: Callable[[CommitRecord | None], CommitRecord | None]
    ) -> CommitRecord | None:
        """Replace a record by what `changed` makes of it, or leave it where that is None."""
        for attempt in range(COMMIT_ATTEMPTS):
            found = self._look(row)
            wanted = changed(found.record)
            if wanted is None:
                return found.record
            with _naming(row):
                written = self.commits.write(self._ours(wanted), found.tag)
            if written is not None:
                return written.record
            _pause(attempt, 0.0)
        raise StoreError(
            f"the record of row {row} changed {COMMIT_ATTEMPTS} times while it was replaced; "
            "check that no other run writes there"
        )

    def matches(self, record: CommitRecord) -> bool:
        """True if the row's weights are those the record was written for."""
        return self.fault(record) is None

    def fault(self, record: CommitRecord) -> str | None:
        """What is wrong with the weights of a row that exists; None where nothing is.

        Raises StoreError where they cannot be read for reasons that lie outside of them.
        """
        if record.checksum is None:
            return None if record.status == "failed" else "its record has no checksum"
        try:
            (vector,) = self.shards.read([record.row], slice(0, self.shards.n_columns))
        except DamagedRowError as error:
            return str(error).split(";", 1)[0]
        if checksum_of(vector) != record.checksum:
            return f"the weights at {self.shards.path(record.row)} are not those of its record"
        return None

    def _look(self, row: int) -> Found:
        """What stands in a row's place. The fence comes after: see above."""
        found = self.commits.find(row)
        self.commits.refuse_damage(row, found)
        self._check_fence()
        if self.fence and found.record and (found.record.epoch or 0) > self.fence.number:
            # On NFS the fence's own file may become visible only later.
            raise self.fence.refusal()
        return found

    def _check_fence(self) -> None:
        if self.fence is not None:
            self.fence.check()

    def _ours(self, record: CommitRecord) -> CommitRecord:
        return replace(record, epoch=self.fence.number) if self.fence else record

    def _mark(self, record: CommitRecord) -> CommitRecord:
        return mark(record.row, WRITING, spec_digest=record.spec_digest, epoch=record.epoch)

    def _stamped(self, record: CommitRecord, tag: Tag | None) -> CommitRecord | None:
        """A row that stands, under our epoch: no earlier one may touch it any more."""
        if self.fence is None or record.epoch == self.fence.number:
            return record
        written = self.commits.write(self._ours(record), tag)
        return None if written is None else written.record


@contextmanager
def _naming(row: int) -> Iterator[None]:
    """Say of an error which row it kept from being stored."""
    try:
        yield
    except FencedError:
        raise
    except StoreError as error:
        raise StoreError(f"row {row} was not stored: {error}") from error


def _pause(attempt: int, took_s: float) -> None:
    """By chance, or two writers that got into step would stay in it; long enough for the other."""
    longest_s = max(FIRST_PAUSE_S, took_s) * 2**attempt
    time.sleep(random.uniform(0, min(longest_s, LONGEST_PAUSE_S)))


def status_of(vector: Vector, layout: AdapterLayout) -> str:
    """`ok`, `zero` where the update is exactly zero (all `lora_B` are), or `non_finite`."""
    if not np.isfinite(vector).all():
        return "non_finite"
    changes = any(
        vector[entry.offset : entry.stop].any() for entry in layout.entries if entry.factor == "B"
    )
    return "ok" if changes else "zero"
