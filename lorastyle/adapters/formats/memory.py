"""A file's bytes that are in memory already, to be read as a file without a copy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class MemoryFile(io.RawIOBase):
    """Reads as a file does. `rest` gives what follows as it lies, which BytesIO cannot."""

    def __init__(self, content: bytes | memoryview) -> None:
        super().__init__()
        self._content = memoryview(content)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content)}[whence]
        if start + offset < 0:
            raise OSError(22, "Invalid argument")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        return self._next(len(self._content) if size is None or size < 0 else size).tobytes()

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer).cast("B")
        found = self._next(len(room))
        room[: len(found)] = found
        return len(found)

    def rest(self, size: int) -> npt.NDArray[np.uint8]:
        """(size,): what follows, or less of it at the end; a view, not to be written to."""
        return np.frombuffer(self._next(size), np.uint8)

    def _next(self, size: int) -> memoryview:
        found = self._content[self._at : self._at + size]
        self._at += len(found)
        return found
