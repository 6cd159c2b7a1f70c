"""Writing a row so that its weights and its record agree, whoever else writes it.

Record away, weights, record, and then a look at what stands: whoever of two
racing writers looks last sees its own end state, or writes again. A writer killed
anywhere leaves the row absent, or whole.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.layout import AdapterLayout
from lorastyle.errors import StoreError
from lorastyle.store.commits import CommitLog, CommitRecord, checksum_of
from lorastyle.store.shards import RowShards

Vector = npt.NDArray[np.float32]

COMMIT_ATTEMPTS = 7
FIRST_PAUSE_S = 0.01
"""At most, before a second attempt; each time twice as long."""


@dataclass(frozen=True)
class RowWriter:
    """Writes rows with their records, and checks one against the other."""

    shards: RowShards
    commits: CommitLog

    def commit(self, record: CommitRecord, vector: Vector) -> CommitRecord:
        """Write weights (d,) and record, unless the same are there; returns what stands.

        Raises StoreError where they cannot be written or do not read back: the
        row is then absent, and the others are as they were.
        """
        before = self.commits.read(record.row)
        if before is not None and before.is_of_the_same(record) and self.matches(before):
            return before
        for attempt in range(COMMIT_ATTEMPTS):
            self._write(record, vector)
            standing = self.commits.read(record.row)
            if standing is not None and self.matches(standing):
                return standing
            # By chance, or two writers that got into step would stay in it.
            time.sleep(random.uniform(0, FIRST_PAUSE_S * 2**attempt))
        raise StoreError(
            f"row {record.row} at {self.shards.path(record.row)} does not read back as written, "
            f"{COMMIT_ATTEMPTS} times; check the free space and that no other run writes there"
        )

    def _write(self, record: CommitRecord, vector: Vector) -> None:
        try:
            self.commits.erase(record.row)
            self.shards.write(record.row, vector)
            self.commits.write(record)
        except StoreError as error:
            raise StoreError(f"row {record.row} was not stored: {error}") from error

    def quarantine(self, record: CommitRecord) -> CommitRecord:
        """Record a failure, unless the row is there, of the same spec; returns what stands."""
        before = self.commits.read(record.row)
        if before is not None and before.is_current(record.spec_digest):
            return before
        self.commits.write(record)
        return record

    def matches(self, record: CommitRecord) -> bool:
        """True if the row's weights are those the record was written for."""
        if record.checksum is None:
            return True
        try:
            (vector,) = self.shards.read([record.row], slice(0, self.shards.n_columns))
        except StoreError:
            return False
        return checksum_of(vector) == record.checksum


def status_of(vector: Vector, layout: AdapterLayout) -> str:
    """`ok`, `zero` where the update is exactly zero (all `lora_B` are), or `non_finite`."""
    if not np.isfinite(vector).all():
        return "non_finite"
    changes = any(
        vector[entry.offset : entry.stop].any() for entry in layout.entries if entry.factor == "B"
    )
    return "ok" if changes else "zero"
