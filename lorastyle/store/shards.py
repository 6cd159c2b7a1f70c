"""One-row Zarr v3 shards, read and written without Zarr's overhead.

zarr-python spends about 2 ms of CPU on reading a 250 KB chunk; doing exactly what
the sharding specification says, for uncompressed little-endian chunks with a
CRC32C each, takes about a tenth, and reading dominates a Gram pass. Writing here
too makes a row durable before its commit record, and keeps rows of zeros, which
zarr-python leaves out. Any Zarr reader reads the result.
Source: Zarr v3 codec `sharding_indexed`, index at the end of the file.
"""

from __future__ import annotations

import errno
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np
import numpy.typing as npt

from lorastyle.errors import DamagedRowError, StoreError
from lorastyle.places.place import ChangedMeanwhileError, OpenFile, Place
from lorastyle.places.tag import Tag

Matrix = npt.NDArray[np.float32]
Piece = tuple[int, slice, slice]
"""Number of an inner chunk, which of its columns, and where they belong."""

CRC_BYTES = 4
CRC_RESIDUE = 0x48674BC7
"""CRC32C of anything followed by its own CRC32C, little-endian."""
INDEX_ENTRY = struct.Struct("<QQ")
"""Offset and length of an inner chunk."""
FLOAT = np.dtype("<f4")
READ_ATTEMPTS = 5
BLOCKS_AT_ONCE = 32
"""Inner chunks in one request to a bucket: 4 MiB for each of the rows read at once."""
MARK_BYTES = 16
MISSING_CHUNK = 2**64 - 1
"""The index entry of a chunk that was left out because it is all zeros."""


@dataclass(frozen=True)
class RowShards:
    """Rows of an (n, d) array stored as shards (1, d) of inner chunks (1, block)."""

    place: Place
    """The array's chunk directory: the shard of row i is the file `i/0` in it."""
    n_columns: int
    block: int

    @property
    def n_blocks(self) -> int:
        return -(-self.n_columns // self.block)

    @property
    def n_bytes(self) -> int:
        """Size of a shard that `replace` wrote."""
        return self.n_blocks * (self._chunk_bytes + 16) + CRC_BYTES + MARK_BYTES

    def path(self, row: int) -> str:
        """What to call a row's shard in a message."""
        return self.place.where(_key(row))

    def read(
        self,
        rows: Sequence[int],
        columns: slice,
        *,
        out: Matrix | None = None,
        origin: Matrix | None = None,
    ) -> Matrix:
        """Entries of these rows and of a contiguous column range: (m, width) float32.

        Written to `out` (m, width), each of its rows contiguous, where it is
        given. `origin` (width,) is subtracted on the way, at no cost: a chunk
        then passes through the cache once. Raises StoreError naming the row
        that is missing or damaged.
        """
        shape = len(rows), columns.stop - columns.start
        out = np.empty(shape, np.float32) if out is None else _destination(out, shape)
        pieces = self._pieces(columns)
        self.place.each(
            lambda job: self._read_row(job[1], pieces, out[job[0]], origin), enumerate(rows)
        )
        return out

    def hint(self, rows: Sequence[int], columns: slice) -> None:
        """These columns will be read soon. Where chunks lie is guessed; errors cost time."""
        first, last = columns.start // self.block, -(-columns.stop // self.block)
        keys = (_key(row) for row in rows)
        self.place.hint(keys, first * self._chunk_bytes, last * self._chunk_bytes)

    def _pieces(self, columns: slice) -> list[Piece]:
        """The column range cut at the inner chunks' bounds."""
        pieces = []
        for number in range(columns.start // self.block, -(-columns.stop // self.block)):
            begin = number * self.block
            start, stop = max(begin, columns.start), min(begin + self.block, columns.stop)
            target = slice(start - columns.start, stop - columns.start)
            pieces.append((number, slice(start - begin, stop - begin), target))
        return pieces

    def write(self, row: int, vector: Matrix) -> None:
        """Write one row (d,), whatever is there: durable and all at once when this returns."""
        self.place.write(_key(row), self._parts(vector, b""))

    def tag(self, row: int) -> Tag | None:
        """Which version of a row is there, or None where there is none."""
        return self.place.tag(_key(row))

    def replace(self, row: int, vector: Matrix, expected: Tag | None) -> bool:
        """Write one row (d,) if the version there is still that one; True if it was written."""
        parts = self._parts(vector, uuid.uuid4().bytes)
        return self.place.replace(_key(row), parts, expected) is not None

    def _parts(self, vector: Matrix, mark: bytes) -> list[bytes]:
        """A shard. Nothing points to the mark: it makes the file one of its kind."""
        padded = np.zeros(self.n_blocks * self.block, "<f4")
        padded[: self.n_columns] = vector
        chunks = [_with_crc(chunk.tobytes()) for chunk in padded.reshape(self.n_blocks, -1)]
        n_bytes = len(chunks[0])
        index = np.array([(i * n_bytes, n_bytes) for i in range(self.n_blocks)], "<u8")
        return [*chunks, mark, _with_crc(index.tobytes())]

    def _read_row(self, row: int, pieces: list[Piece], out: Matrix, origin: Matrix | None) -> None:
        for _ in range(READ_ATTEMPTS):
            try:
                with self.place.open(_key(row)) as file:
                    return self._copy(file, row, pieces, out, origin)
            except ChangedMeanwhileError:
                continue
            except FileNotFoundError as error:
                raise DamagedRowError(
                    f"row {row} has no weights at {self.path(row)}; "
                    "`lorastyle store scrub RUN` has it made again"
                ) from error
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # The disk itself noticed: a sector that it cannot read back.
                raise self._damage(row) from error
        raise StoreError(
            f"row {row} at {self.path(row)} was replaced {READ_ATTEMPTS} times "
            "while it was read; check that no other run writes there"
        )

    def _copy(
        self,
        file: OpenFile,
        row: int,
        pieces: list[Piece],
        out: Matrix,
        origin: Matrix | None,
    ) -> None:
        index = self._index(file, row)
        for start in range(0, len(pieces), BLOCKS_AT_ONCE):
            strip = pieces[start : start + BLOCKS_AT_ONCE]
            entries = [INDEX_ENTRY.unpack_from(index, 16 * number) for number, _, _ in strip]
            _expect(file, entries)
            # A chunk a read: it stays in the processor's cache from the disk's pages
            # through the checksum to its place. Longer reads are several times slower.
            for (_, source, target), (offset, n_bytes) in zip(strip, entries, strict=True):
                chunk = self._chunk(file, row, offset, n_bytes)[source]
                if origin is None:
                    out[target] = chunk
                else:
                    np.subtract(chunk, origin[target], out=out[target])

    def _chunk(self, file: OpenFile, row: int, offset: int, n_bytes: int) -> Matrix:
        """An inner chunk (block,), verified."""
        if offset == MISSING_CHUNK:
            return np.zeros(self.block, np.float32)
        content = file.at(n_bytes, offset) if n_bytes == self._chunk_bytes else b""
        if len(content) != self._chunk_bytes or not _crc_matches(content):
            raise self._damage(row)
        return np.frombuffer(content, FLOAT, count=self.block)

    def _index(self, file: OpenFile, row: int) -> bytes:
        """Offset and length of each inner chunk, verified."""
        n_bytes = 16 * self.n_blocks + CRC_BYTES
        content = file.tail(n_bytes)
        if len(content) != n_bytes or not _crc_matches(content):
            raise self._damage(row)
        return content

    @property
    def _chunk_bytes(self) -> int:
        return 4 * self.block + CRC_BYTES

    def _damage(self, row: int) -> DamagedRowError:
        return DamagedRowError(
            f"the weights of row {row} at {self.path(row)} are damaged; "
            "`lorastyle store scrub RUN` has it made again"
        )


def _key(row: int) -> str:
    return f"{row}/0"


def _expect(file: OpenFile, entries: list[tuple[int, int]]) -> None:
    """Announce the bytes from the first to the last of these chunks."""
    present = [entry for entry in entries if entry[0] != MISSING_CHUNK]
    if present:
        file.expect(min(present)[0], max(offset + n_bytes for offset, n_bytes in present))


def _with_crc(content: bytes) -> bytes:
    return content + _crc(content)


def _crc_matches(content: bytes) -> bool:
    """True if the last four bytes are the checksum of those before them."""
    # Over content and checksum CRC32C is a constant: no copy is made to leave it out.
    return int(google_crc32c.value(content)) == CRC_RESIDUE


def _crc(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(CRC_BYTES, "little")


def _destination(out: Matrix, shape: tuple[int, int]) -> Matrix:
    contiguous = out.strides[1] == out.itemsize if out.ndim == 2 else False
    if out.shape != shape or out.dtype != np.float32 or not contiguous:
        raise ValueError(
            f"out is {out.dtype} {out.shape}, not float32 {shape} with contiguous rows"
        )
    return out
