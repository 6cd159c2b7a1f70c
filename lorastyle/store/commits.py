"""Commit records: what makes a row of the store exist.

One small JSON file a row, written last and all at once. A row whose weights are
there but whose record is not was interrupted, and counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.errors import StoreError
from lorastyle.places.place import Place

RECORD_VERSION = 1


@dataclass(frozen=True)
class CommitRecord:
    """What is known about one row: where it comes from and whether it can be used."""

    row: int
    status: str
    """`ok`, `zero` (the update is exactly zero), `non_finite` or `failed` (no weights). Only `ok`
    rows enter a fit."""
    spec_digest: str
    """Identity of all that determined the weights: same digest, nothing to do."""
    checksum: str | None
    """SHA-256 of the row's float32 little-endian bytes; None where it has no weights."""
    spec: dict[str, Any] = field(default_factory=dict)
    receipt: dict[str, Any] = field(default_factory=dict)
    """Losses, time, norm: from the trainer."""
    reason: str | None = None
    """Why it failed."""
    version: int = RECORD_VERSION

    def is_current(self, spec_digest: str) -> bool:
        """True if the row was made from this spec and did not fail: nothing to do."""
        return self.status != "failed" and self.spec_digest == spec_digest

    def is_of_the_same(self, other: CommitRecord) -> bool:
        """True if both are of the same spec and weights, whatever their receipts say."""
        return (self.spec_digest, self.checksum) == (other.spec_digest, other.checksum)


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


@dataclass(frozen=True)
class CommitLog:
    """The commit records, a small file each."""

    place: Place

    def key(self, row: int) -> str:
        return f"{row:08d}.json"

    def write(self, record: CommitRecord) -> None:
        """Make the row exist."""
        text = json.dumps(asdict(record), indent=2, allow_nan=False) + "\n"
        self.place.write(self.key(record.row), [text.encode()])

    def erase(self, row: int) -> None:
        """Make the row absent."""
        self.place.delete(self.key(row))

    def read(self, row: int) -> CommitRecord | None:
        """The record of a row, or None where it does not exist."""
        return self._load(self.key(row))

    def read_all(self) -> dict[int, CommitRecord]:
        """Every record by row, in ascending order."""
        names = [name for name in self.place.names() if name.endswith(".json")]
        records = [record for record in self.place.each(self._load, names) if record is not None]
        return {record.row: record for record in sorted(records, key=lambda one: one.row)}

    def _load(self, name: str) -> CommitRecord | None:
        content = self.place.read(name)
        if content is None:
            return None
        try:
            return CommitRecord(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"commit record {self.place.where(name)} is damaged; "
                "delete it to have its row made again"
            ) from error
