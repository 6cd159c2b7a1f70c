"""`AdapterStore`: the weights of all adapters of a run, a row each, in one Zarr group.

    adapters.zarr/                   a directory, or a prefix of a bucket
      zarr.json                    layout, base model, alpha, rank, initialisation
      weights/c/ROW/0              one shard a row: one file, one writer
      initial/                     the initial vector all adapters share, once
      commits/ROW.json             written last; a row without one does not exist
      .lock, also in the two above   in a directory: held while a file is replaced

Inner chunks are column blocks, so that reading a few columns of every row is as
cheap as reading rows. Nothing is compressed: trained float32 does not compress.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.adapters.layout import AdapterLayout
from lorastyle.errors import StoreError
from lorastyle.places.place import Place, place_of
from lorastyle.records import SUB_NETWORKS, AdapterSpec, digest
from lorastyle.store.commits import CommitLog, CommitRecord, checksum_of, finite_values
from lorastyle.store.epochs import Fence
from lorastyle.store.group import (
    identity,
    make_group,
    make_room,
    read_attributes,
    read_initial,
    read_weights_metadata,
    refuse_other,
)
from lorastyle.store.shards import RowShards
from lorastyle.store.writing import RowWriter, status_of

Vector = npt.NDArray[np.float32]

TABLE_COLUMNS = ("row", "adapter_id", "artist", "genre", "role", "index")


@dataclass(frozen=True)
class AdapterStore:
    """An open store. Cheap to open and to pickle; safe to open in many processes.

    Any process may commit any row: row and record agree at any time, whoever races
    for them and whoever is killed. `fenced` also keeps out processes of an earlier attempt.
    """

    path: Path | str
    """Where it is: a directory or a URL such as `s3://bucket/prefix`."""
    layout: AdapterLayout
    attributes: Mapping[str, Any]
    fence: Fence | None = None
    """The attempt at the run that it is written by, where attempts are told apart."""

    @classmethod
    def create(
        cls,
        path: Path | str,
        layout: AdapterLayout,
        *,
        base: Mapping[str, Any],
        alpha: float,
        n_rows: int,
        init: Mapping[str, Any],
        initial: Vector | None = None,
    ) -> Self:
        """Make a store, or open the one that is there if it is the same.

        `base` is the base model's identity and `init` says how `lora_A` started
        (initialisation, init_seed); both plain JSON. `initial` (d,) is the vector
        all adapters start from, where they share one. A store that is there is
        grown to `n_rows`, never shrunk. Raises StoreError naming what differs.
        """
        attributes = identity(layout, base, alpha, init, initial)
        new = make_group(place_of(path), layout.size, n_rows, attributes, initial)
        store = cls.open(path)
        if not new:
            refuse_other(path, store.attributes, attributes)
        store.grow(n_rows)
        return store

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a store at a path or URL.

        Raises StoreError if there is none, or one of another version.
        """
        place = place_of(path)
        attributes = read_attributes(place)
        # A path stays a Path; a URL is text, for a Path would drop a slash.
        path = path if "://" in str(path) else Path(path)
        return cls(path, AdapterLayout.from_dict(attributes["layout"]), attributes)

    @property
    def n_rows(self) -> int:
        """Rows there is room for, committed or not."""
        # Read each time: another process may have grown it.
        return int(read_weights_metadata(self._place)["shape"][0])

    @property
    def size(self) -> int:
        """Length d of an adapter vector."""
        return self.layout.size

    @property
    def rank(self) -> int:
        return self.layout.rank

    @property
    def alpha(self) -> float:
        return float(self.attributes["alpha"])

    @property
    def scaling(self) -> float:
        """`alpha / rank`: what the update `B @ A` is multiplied with."""
        return self.alpha / self.rank

    @property
    def sub_networks(self) -> tuple[str, ...]:
        """The sub-networks that the adapters have, in canonical order."""
        return tuple(name for name in SUB_NETWORKS if self.layout.columns(name))

    @property
    def row_bytes(self) -> int:
        """Size of a row's file."""
        return self._shards.n_bytes

    @property
    def block(self) -> int:
        """Columns of an inner chunk."""
        return self._shards.block

    @cached_property
    def initial(self) -> Vector | None:
        """The initial vector (d,) all adapters share, or None."""
        return read_initial(self._place, self.attributes)

    @cached_property
    def _place(self) -> Place:
        return place_of(self.path)

    @cached_property
    def _shards(self) -> RowShards:
        (codec,) = read_weights_metadata(self._place)["codecs"]
        block = int(codec["configuration"]["chunk_shape"][1])
        return RowShards(self._place.child("weights/c"), self.size, block)

    @cached_property
    def _commits(self) -> CommitLog:
        return CommitLog(self._place.child("commits"))

    @property
    def writer(self) -> RowWriter:
        """Rows and records one by one, for who looks after them."""
        return RowWriter(self._shards, self._commits, self.fence)

    def fenced(self, fence: Fence) -> Self:
        """The same store, written by one attempt at the run.

        Once a later attempt is claimed, `commit` and `quarantine` raise FencedError, and a
        writer that slept through its end changes nothing that the later one wrote.
        """
        return replace(self, fence=fence)

    def grow(self, n_rows: int) -> None:
        """Make room for at least `n_rows` rows, at any time."""
        make_room(self._place, n_rows)

    def sweep(self, older_than_s: float = 86_400.0, *, remove: bool = True) -> int:
        """Remove temporary files of writers that were killed, or only count them.

        They are named `.*.tmp` and nothing reads them.
        """
        return self._place.sweep(older_than_s, remove=remove)

    def commit(
        self,
        row: int,
        vector: Vector,
        spec: AdapterSpec | Mapping[str, Any],
        receipt: Mapping[str, Any],
        *,
        spec_digest: str | None = None,
    ) -> CommitRecord:
        """Write a row (d,) and then its record; returns the record that stands.

        `spec_digest` identifies all that determined the weights; by default the
        spec alone. A whole row of the same digest is left as it is, even where these
        weights differ from it in their last bits: the first of two actors that train the
        same adapter stands. A zero or non-finite adapter is recorded as such. Written rows
        are read back, so that a full disk or a racing writer cannot leave a
        record beside other weights. Raises FencedError as `fenced` says, StoreError where
        the row cannot be written.
        """
        vector = self._checked(row, vector)
        spec = _plain(spec)
        record = CommitRecord(
            row=row,
            status=status_of(vector, self.layout),
            spec_digest=spec_digest or digest(spec),
            checksum=checksum_of(vector),
            spec=spec,
            receipt=finite_values(receipt),
        )
        return self.writer.commit(record, vector)

    def quarantine(
        self,
        row: int,
        spec: AdapterSpec | Mapping[str, Any],
        reason: str,
        *,
        spec_digest: str | None = None,
    ) -> CommitRecord:
        """Record that an adapter failed. A good row of the same spec is left alone.

        Returns the record that stands. Raises FencedError as `fenced` says.
        """
        self._check_row(row)
        spec = _plain(spec)
        record = CommitRecord(row, "failed", spec_digest or digest(spec), None, spec, {}, reason)
        return self.writer.quarantine(record)

    def describe(self, row: int, spec: Mapping[str, Any]) -> CommitRecord:
        """Say of a committed row who it is; its weights stay.

        Raises StoreError where there is no such row.
        """
        record = self.writer.describe(row, spec)
        if record is None:
            raise StoreError(f"{self.path} has no committed row {row}; commit its weights first")
        return record

    def committed(self) -> dict[int, CommitRecord]:
        """Every committed row's record, by ascending row; failed ones among them."""
        return self._commits.read_all()

    def record(self, row: int) -> CommitRecord | None:
        """A row's record, or None where the row does not exist."""
        return self._commits.read(row)

    def is_current(self, row: int, spec_digest: str) -> bool:
        """True if the row was made from this spec: nothing to do. Failed rows are not."""
        record = self._commits.read(row)
        return record is not None and record.is_current(spec_digest)

    def missing(self, spec_digests: Mapping[int, str]) -> list[int]:
        """Of these rows, by spec digest, those still to be trained; ascending."""
        there = self.committed()
        return [
            row
            for row, spec_digest in sorted(spec_digests.items())
            if row not in there or not there[row].is_current(spec_digest)
        ]

    def rows(self, status: str = "ok") -> list[int]:
        """Committed rows of a status, ascending."""
        return [row for row, record in self.committed().items() if record.status == status]

    def table(self, status: str = "ok") -> pd.DataFrame:
        """Who the rows are: columns row, adapter_id, artist, genre, role, index."""
        records = [record for record in self.committed().values() if record.status == status]
        rows = [
            {"row": record.row, **{key: record.spec.get(key) for key in TABLE_COLUMNS[1:]}}
            for record in records
        ]
        return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))

    def read_rows(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Vector:
        """Vectors (m, d) float32 of these rows, in this order."""
        return self.read_columns(rows, slice(0, self.size))

    def read_columns(
        self,
        rows: Sequence[int] | npt.NDArray[np.integer[Any]],
        columns: slice,
        *,
        out: Vector | None = None,
        origin: Vector | None = None,
    ) -> Vector:
        """A contiguous column range of these rows: (m, width) float32.

        Read into `out` (m, width) where given, less `origin` (width,) where
        given. Raises StoreError naming a row that is missing or damaged.
        """
        start, stop, step = columns.indices(self.size)
        if step != 1:
            raise StoreError(f"columns {columns} are not contiguous; read them with step 1")
        columns = slice(start, max(start, stop))
        return self._shards.read([int(row) for row in rows], columns, out=out, origin=origin)

    def hint(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]], columns: slice) -> None:
        """Say that these will be read soon, so that the disk works while others compute."""
        self._shards.hint([int(row) for row in rows], columns)

    def verify(self, row: int) -> bool:
        """True if the row's weights are those its record was written for."""
        record = self._commits.read(row)
        return record is not None and self.writer.matches(record)

    def _checked(self, row: int, vector: Vector) -> Vector:
        self._check_row(row)
        if vector.shape != (self.size,):
            raise StoreError(
                f"the vector for row {row} has shape {vector.shape}, the store holds "
                f"({self.size},); train it with the store's layout"
            )
        return np.ascontiguousarray(vector, dtype="<f4")

    def _check_row(self, row: int) -> None:
        # Stores only grow: what there was room for once needs no other look.
        if not (0 <= row < self._n_rows_at_first or 0 <= row < self.n_rows):
            raise StoreError(f"{self.path} has {self.n_rows} rows, not row {row}; grow it first")

    @cached_property
    def _n_rows_at_first(self) -> int:
        return self.n_rows


class Committed(Protocol):
    """What holds committed rows."""

    def committed(self) -> dict[int, CommitRecord]: ...


def digest_of_contents(store: Committed) -> str:
    """SHA-256 over every committed row's number, status, checksum and spec digest."""
    return digest_of_records(store.committed())


def digest_of_records(records: Mapping[int, CommitRecord]) -> str:
    """The same, of records that have been read already."""
    return digest(
        [
            [record.row, record.status, record.checksum, record.spec_digest]
            for record in records.values()
        ]
    )


def _plain(spec: AdapterSpec | Mapping[str, Any]) -> dict[str, Any]:
    return spec.to_dict() if isinstance(spec, AdapterSpec) else dict(spec)
