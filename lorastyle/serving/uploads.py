"""Uploads: multipart forms, kept in memory; large files in a folder of their own that goes
with them.

What a file is called is for people: on disk it is not called so.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from lorastyle.adapters.formats.opening import (
    CONFIG_FILE,
    WEIGHT_FILES,
    FileInMemory,
    sha256_of,
)
from lorastyle.serving.refusals import malformed, too_large, too_slow

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

LONGEST_NAME = 120
MOST_PARTS = 8
CONFIGS = {"file": "config", "first": "first_config", "second": "second_config"}
"""By a file's part, the one that may come with it: the adapter_config.json of a PEFT folder."""


@dataclass(frozen=True)
class Received:
    """A file of a form, or a PEFT folder's two."""

    file: Path | FileInMemory
    name: str
    """What the sender calls it, fit to be shown: printable, short, without folders."""

    def told(self, message: str) -> str:
        """A message about the file without where it lies here."""
        if isinstance(self.file, FileInMemory):
            return message
        return message.replace(str(self.file), self.name).replace(self.file.name, self.name)

    def sha256(self) -> str:
        """Of its weights' bytes."""
        return sha256_of(self.file)


class Upload:
    """The files of one request, by the names of the form's parts. `close` deletes them."""

    def __init__(self, memory_bytes: int, expected: int = 0) -> None:
        self.files: dict[str, Received] = {}
        self.expected = expected
        """Bytes that its sender speaks of, to have room for them at once; it may lie."""
        self.n_bytes = 0
        self.memory_left = memory_bytes
        """What is larger than this goes to disk."""
        self._directory: Path | None = None

    def aside(self) -> Path:
        """A folder for what does not stay in memory."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="lorastyle-upload-"))
        return self._directory

    def join(self, name: str, config: str) -> None:
        """Make one of a file and the config that came with it, if one did."""
        if config not in self.files:
            return
        weights, beside = self.files[name].file, self.files.pop(config).file
        if isinstance(weights, FileInMemory) and isinstance(beside, FileInMemory):
            joined: Path | FileInMemory = replace(weights, config=beside.content)
        else:
            # Whatever the weights' format: it is told by their bytes.
            joined = self.aside() / f"{name}.peft"
            joined.mkdir()
            _put(weights, joined / WEIGHT_FILES[0])
            _put(beside, joined / CONFIG_FILE)
        self.files[name] = replace(self.files[name], file=joined)

    def close(self) -> None:
        self.files.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


async def receive(
    chunks: AsyncIterator[bytes],
    content_type: str,
    wanted: Sequence[str],
    *,
    max_bytes: int,
    memory_bytes: int,
    seconds: float,
    expected: int = 0,
) -> Upload:
    """The files `wanted` of a multipart form, each once, with the config that may come with it,
    and nothing else; in memory as long as they have no more than `memory_bytes` together.
    `expected`: bytes that its sender speaks of.

    Raises RefusedError: 400 for another form, 413 above `max_bytes`, 408 after `seconds`.
    """
    upload = Upload(memory_bytes, expected)
    try:
        async with asyncio.timeout(seconds):
            await _fill(upload, chunks, _Form(upload, _boundary(content_type), wanted), max_bytes)
    except TimeoutError:
        upload.close()
        raise too_slow(seconds) from None
    except BaseException:
        upload.close()
        raise
    return upload


async def _fill(upload: Upload, chunks: AsyncIterator[bytes], form: _Form, max_bytes: int) -> None:
    try:
        async for chunk in chunks:
            upload.n_bytes += len(chunk)
            if upload.n_bytes > max_bytes:
                raise too_large(max_bytes)
            form.feed(chunk)
        form.finish()
        for name in form.wanted:
            upload.join(name, CONFIGS[name])
    finally:
        form.close()


def shown_name(name: str) -> str:
    r"""A stranger's file name, fit to be shown.

    >>> shown_name("../../etc/pass\x00wd"), shown_name("C:\\me\\a b.pt"), shown_name(" ")
    ('passwd', 'a b.pt', 'upload')
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    plain = "".join(character for character in last if character.isprintable()).strip()
    return plain[:LONGEST_NAME] or "upload"


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise malformed("the body is no multipart/form-data with a boundary; send a form")
    return boundary


class _Form:
    """Takes a form apart, and keeps each wanted part as it comes."""

    def __init__(self, upload: Upload, boundary: bytes, wanted: Sequence[str]) -> None:
        self._upload, self.wanted = upload, tuple(wanted)
        self._allowed = {*wanted, *(CONFIGS[name] for name in wanted)}
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = bytearray(), bytearray()
        self._part: _Part | None = None
        self._n_parts = 0
        self._ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise malformed(f"the form is damaged: {error}; send it again") from error

    def finish(self) -> None:
        missing = [name for name in self.wanted if name not in self._upload.files]
        if missing or not self._ended:
            what = f"no file {missing[0]!r}" if missing else "no end"
            raise malformed(f"the form has {what}; {self._what_it_takes()}")

    def _what_it_takes(self) -> str:
        may = ", ".join(CONFIGS[name] for name in self.wanted)
        return f"it must have {', '.join(self.wanted)} and may have {may}"

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def _on_begin(self) -> None:
        self._headers = {}
        self._n_parts += 1
        if self._n_parts > MOST_PARTS:
            raise malformed(f"the form has more than {MOST_PARTS} parts")

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in self._allowed or name in self._upload.files:
            raise malformed(
                f"the form has a part {shown_name(name)!r} that is unknown or there already; "
                f"{self._what_it_takes()}"
            )
        called = options.get(b"filename", b"").decode("utf-8", "replace")
        self._part = _Part(self._upload, name, shown_name(called))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        assert self._part is not None
        self._part.add(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        assert self._part is not None
        self._upload.files[self._part.field] = self._part.received()
        self.close()

    def _on_end(self) -> None:
        self._ended = True


class _Part:
    """A file on its way: in memory, from the byte on that has no room there on disk."""

    def __init__(self, upload: Upload, field: str, name: str) -> None:
        self.field = field
        self._upload, self._name = upload, name
        self._content = _Buffer(min(upload.expected, upload.memory_left))
        self._path: Path | None = None
        self._file: FileIO | None = None

    def add(self, data: memoryview) -> None:
        if self._file is None and len(data) <= self._upload.memory_left:
            self._upload.memory_left -= len(data)
            self._content.add(data)
            return
        if self._file is None:
            self._path = self._upload.aside() / f"{self.field}.upload"
            self._file = self._path.open("wb", buffering=0)
            _write(self._file, self._content.filled())
            self._upload.memory_left += len(self._content.filled())
            self._content = _Buffer(0)
        _write(self._file, data)

    def received(self) -> Received:
        file = self._path or FileInMemory(self._name, self._content.filled())
        return Received(file, self._name)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Buffer:
    """Bytes in a row. A bytearray would move them each time it has an eighth more."""

    def __init__(self, expected: int) -> None:
        self._room = np.empty(expected, np.uint8)
        self._n = 0

    def add(self, data: memoryview) -> None:
        end = self._n + len(data)
        if end > len(self._room):
            larger = np.empty(2 * end, np.uint8)
            larger[: self._n] = self._room[: self._n]
            self._room = larger
        self._room.data[self._n : end] = data
        self._n = end

    def filled(self) -> memoryview:
        return self._room.data[: self._n]


def _put(file: Path | FileInMemory, path: Path) -> None:
    if isinstance(file, FileInMemory):
        path.write_bytes(file.content)
    else:
        file.rename(path)


def _write(file: FileIO, data: memoryview) -> None:
    # To the page cache: shorter than the way to a thread and back.
    while data:
        data = data[file.write(data) :]
