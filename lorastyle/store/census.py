"""Census: which rows of a store are made, which are missing, and which never will be.

Only records are read, never weights: for what weights are like there is `scrub`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lorastyle.records import AdapterSpec
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.commits import WRITING, CommitRecord, Found

MADE = ("ok", "zero", "non_finite")
"""Statuses of rows that have weights."""


@dataclass
class Census:
    """Every row once, under what became of it."""

    by_status: Counter[str] = field(default_factory=Counter)
    """Rows that exist: ok, zero, non_finite, failed."""
    by_role: dict[str, Counter[str]] = field(default_factory=dict)
    """The same and `missing`, of planned rows, or of all where there is no plan."""
    failed: list[CommitRecord] = field(default_factory=list)
    writing: list[int] = field(default_factory=list)
    """Being written, or interrupted in it."""
    requeued: list[CommitRecord] = field(default_factory=list)
    """Set aside by a scrub, with the reason."""
    damaged: list[int] = field(default_factory=list)
    """Records that cannot be read."""
    missing: list[int] = field(default_factory=list)
    """Planned, and not there; those above that are absent among them."""
    unexpected: list[int] = field(default_factory=list)
    """There, and not planned, or planned to be another adapter."""
    n_bytes: int = 0
    """Of weights that count."""

    @property
    def n_made(self) -> int:
        """Rows that have weights."""
        return sum(self.by_status[status] for status in MADE)


def take_census(store: AdapterStore, specs: Sequence[AdapterSpec] | None) -> Census:
    """Count the rows of a store, against a plan where there is one."""
    census = Census()
    found = store.writer.commits.find_all()
    for row, one in found.items():
        _count(row, one, census)
    existing = {row: one.record for row, one in found.items() if one.record and one.record.exists}
    if specs is None:
        for record in existing.values():
            _count_role(str(record.spec.get("role")), record.status, census)
    else:
        _compare(existing, specs, census)
    census.n_bytes = census.n_made * store.row_bytes
    return census


def _count(row: int, found: Found, census: Census) -> None:
    record = found.record
    if record is None:
        census.damaged.append(row)
    elif not record.exists and record.status == WRITING:
        census.writing.append(row)
    elif not record.exists:
        census.requeued.append(record)
    else:
        census.by_status[record.status] += 1
        if record.status == "failed":
            census.failed.append(record)


def _compare(
    existing: Mapping[int, CommitRecord], specs: Sequence[AdapterSpec], census: Census
) -> None:
    names = {spec.row: spec.adapter_id for spec in specs}
    for spec in specs:
        record = existing.get(spec.row)
        there = record is not None and record.spec.get("adapter_id") == spec.adapter_id
        if not there:
            census.missing.append(spec.row)
        _count_role(spec.role.value, record.status if record and there else "missing", census)
    census.unexpected += [
        row for row, record in existing.items() if record.spec.get("adapter_id") != names.get(row)
    ]


def _count_role(role: str, status: str, census: Census) -> None:
    census.by_role.setdefault(role, Counter())[status] += 1
