"""Scrub: every row is read and compared with its record; the bad ones are to be made again.

Looking comes first and changes nothing. Then the record of a bad row, if it still is the
version that was looked at, becomes a mark: to everybody the row is absent, and whoever
fills the store fills it in.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lorastyle.places.tag import Tag
from lorastyle.progress import Progress, Silent
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.commits import REQUEUED, CommitRecord, mark
from lorastyle.store.writing import RowWriter

LOOKS = 5
"""How often a row is looked at that changes meanwhile."""


@dataclass(frozen=True)
class BadRow:
    """A row that counts as made and is not what it should be."""

    row: int
    adapter_id: str | None
    """None where its record cannot be read."""
    what: str
    """What is wrong."""
    tag: Tag | None = field(repr=False)
    """The version of its record that this was found under."""


@dataclass
class Examination:
    """What the rows of a store are like."""

    n_good: int = 0
    """Whole: record, index, every chunk and the checksum over all weights."""
    n_failed: int = 0
    """Recorded as failed: no weights to look at."""
    bad: list[BadRow] = field(default_factory=list)
    unfinished: list[int] = field(default_factory=list)
    """Being written, interrupted, or set aside: absent already."""
    orphans: list[int] = field(default_factory=list)
    """Weights without a record: a killed writer's. The next writer replaces them."""


def examine(
    store: AdapterStore, *, sample: int | None = None, shown: Progress | None = None
) -> Examination:
    """Look at every row, or at `sample` of those that are committed. One row in memory.

    Writers may be at work. Raises StoreError where weights cannot be read for reasons that
    lie outside of them, such as the network.
    """
    shown = shown or Silent()
    found = Examination()
    for row in rows_of(store, sample):
        _look(store.writer, row, found)
        shown.advance()
    return found


def rows_of(store: AdapterStore, sample: int | None = None) -> Sequence[int]:
    """The rows to look at: all there is room for, and any that has a record."""
    recorded = store.writer.commits.find_all()
    if sample is not None:
        committed = [row for row, one in recorded.items() if one.is_damaged or _exists(one.record)]
        return sorted(random.sample(committed, min(sample, len(committed))))
    return sorted(recorded.keys() | set(range(store.n_rows)))


def set_aside(store: AdapterStore, bad: Sequence[BadRow]) -> list[int]:
    """Make these rows absent, so that they are made again; returns which.

    A row that another process has written since it was looked at is left alone.
    """
    marks = [(mark(one.row, REQUEUED, reason=one.what, spec=_named(one)), one.tag) for one in bad]
    return [
        record.row for record, tag in marks if store.writer.commits.write(record, tag) is not None
    ]


def _look(writer: RowWriter, row: int, into: Examination) -> None:
    for _ in range(LOOKS):
        found = writer.commits.find(row)
        if not found.is_damaged and not _exists(found.record):
            if found.record is not None:
                into.unfinished.append(row)
            elif writer.shards.tag(row) is not None:
                into.orphans.append(row)
            return
        what = writer.fault(found.record) if found.record else "its record is damaged"
        if what is None:
            failed = found.record is not None and found.record.status == "failed"
            into.n_failed += failed
            into.n_good += not failed
            return
        if writer.commits.find(row).tag == found.tag:
            into.bad.append(BadRow(row, _name(found.record), what, found.tag))
            return
    # Written over and over: it is somebody's who looks after it.
    into.unfinished.append(row)


def _exists(record: CommitRecord | None) -> bool:
    return record is not None and record.exists


def _name(record: CommitRecord | None) -> str | None:
    return None if record is None else str(record.spec.get("adapter_id"))


def _named(bad: BadRow) -> dict[str, Any]:
    return {} if bad.adapter_id is None else {"adapter_id": bad.adapter_id}
