"""Commit records: what makes a row of the store exist.

One small JSON file a row, written last and all at once. A row whose weights are
there but whose record is not was interrupted, and counts as absent. So does one
whose record is only a mark that it is being written, or has to be made again.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.errors import StoreError
from lorastyle.places.place import Place
from lorastyle.places.tag import Tag
from lorastyle.records import digest

RECORD_VERSION = 2
"""1 had neither epoch, token nor seal, and no marks; it still reads."""
WRITING, REQUEUED = "writing", "requeued"
MARKS = (WRITING, REQUEUED)
"""What stands in a record's place while the row does not exist. A record is never deleted:
a late deletion by a process that slept would take away what another has written since."""


@dataclass(frozen=True)
class CommitRecord:
    """What is known about one row: where it comes from and whether it can be used."""

    row: int
    status: str
    """`ok`, `zero` (the update is exactly zero), `non_finite` or `failed` (no weights). Only `ok`
    rows enter a fit."""
    spec_digest: str
    """Identity of all that determined the weights: same digest, nothing to do."""
    checksum: str | None = None
    """SHA-256 of the row's float32 little-endian bytes; None where it has no weights."""
    spec: dict[str, Any] = field(default_factory=dict)
    receipt: dict[str, Any] = field(default_factory=dict)
    """Losses, time, norm: from the trainer."""
    reason: str | None = None
    """Why it failed, or was set aside."""
    version: int = RECORD_VERSION
    epoch: int | None = None
    """The attempt at the run that wrote it, where attempts are told apart."""
    token: str | None = None
    """Random, another one each time: no two versions of a record have the same bytes."""

    @property
    def exists(self) -> bool:
        """False for a mark: to readers the row is absent."""
        return self.status not in MARKS

    def is_current(self, spec_digest: str) -> bool:
        """True if the row was made from this spec and did not fail: nothing to do."""
        made = self.exists and self.status != "failed"
        return made and self.spec_digest == spec_digest


def checksum_of(vector: npt.NDArray[np.float32]) -> str:
    """SHA-256 of the float32 little-endian bytes."""
    return hashlib.sha256(np.ascontiguousarray(vector, dtype="<f4").data).hexdigest()


def finite_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what JSON cannot hold and name it under `not_finite`.

    >>> finite_values({"loss_last": float("nan"), "steps": 60})
    {'steps': 60, 'not_finite': ['loss_last']}
    """
    bad = [key for key, value in values.items() if _is_non_finite(value)]
    kept = {key: value for key, value in values.items() if key not in bad}
    return {**kept, "not_finite": bad} if bad else kept


def _is_non_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def mark(row: int, status: str, **known: Any) -> CommitRecord:
    """What stands in a row's record while the row does not exist."""
    return CommitRecord(row, status, known.pop("spec_digest", ""), **known)


@dataclass(frozen=True)
class Found:
    """What lies in a record's file, whatever it is."""

    record: CommitRecord | None
    """None where there is no file, or one that is no record of this row."""
    tag: Tag | None
    """Its version; None where there is no file."""

    @property
    def is_damaged(self) -> bool:
        return self.record is None and self.tag is not None


@dataclass(frozen=True)
class CommitLog:
    """The commit records, a small file each."""

    place: Place

    def write(self, record: CommitRecord, expected: Tag | None) -> Found | None:
        """Write a record over the version that was found; None: where there is none.

        Returns what then stands, the record under a new token, or None where another
        version was there: then nothing changed.
        """
        record = replace(record, token=uuid.uuid4().hex, version=RECORD_VERSION)
        tag = self.place.replace(_key(record.row), [_encoded(record)], expected)
        return None if tag is None else Found(record, tag)

    def find(self, row: int) -> Found:
        """What stands in a row's place, marks and damage included."""
        found = self.place.read_tagged(_key(row))
        return Found(None, None) if found is None else Found(_decoded(found[0], row), found[1])

    def find_all(self) -> dict[int, Found]:
        """The same of every row that has a file, in ascending order."""
        rows = sorted(_rows(self.place.names()))
        return dict(zip(rows, self.place.each(self.find, rows), strict=True))

    def read(self, row: int) -> CommitRecord | None:
        """The record of a row, or None where the row does not exist."""
        return self._existing(row, self.find(row))

    def read_all(self) -> dict[int, CommitRecord]:
        """Every existing row's record, in ascending order."""
        found = self.find_all().items()
        records = {row: self._existing(row, one) for row, one in found}
        return {row: record for row, record in records.items() if record is not None}

    def refuse_damage(self, row: int, found: Found) -> None:
        """Raise StoreError where the file is no record of this row."""
        if found.is_damaged:
            raise StoreError(
                f"commit record {self.place.where(_key(row))} is damaged; "
                "`lorastyle store scrub RUN` has its row made again"
            )

    def _existing(self, row: int, found: Found) -> CommitRecord | None:
        self.refuse_damage(row, found)
        return found.record if found.record is not None and found.record.exists else None


def _key(row: int) -> str:
    return f"{row:08d}.json"


def _rows(names: Sequence[str]) -> Iterator[int]:
    for name in names:
        stem = name.removesuffix(".json")
        if stem != name and stem.isdecimal() and _key(int(stem)) == name:
            yield int(stem)


def _encoded(record: CommitRecord) -> bytes:
    values = json.loads(json.dumps(asdict(record), allow_nan=False))
    values = {key: value for key, value in values.items() if value not in (None, {})}
    return (json.dumps({**values, "seal": _seal(values)}, indent=2) + "\n").encode()


def _decoded(content: bytes, row: int) -> CommitRecord | None:
    """The record in these bytes, or None where they are none of this row."""
    try:
        values = json.loads(content)
        seal = values.pop("seal", None)
        record = CommitRecord(**values)
        sealed = seal == _seal(values) if record.version > 1 else True
    except (ValueError, TypeError, AttributeError):
        return None
    return record if sealed and record.row == row else None


def _seal(values: Mapping[str, Any]) -> str:
    """What tells a record in which a bit has flipped: nothing else would."""
    return digest(values)[:16]
