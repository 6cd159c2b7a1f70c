"""A store's files in a directory."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from lorastyle.errors import StoreError
from lorastyle.places.locking import locked
from lorastyle.places.tag import Tag

Item = TypeVar("Item")
Result = TypeVar("Result")

READING = threading.Lock()
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class LocalFile:
    """An open file; it stays the same version even while it is replaced."""

    __slots__ = ("_file",)

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def tail(self, n_bytes: int) -> bytes:
        start = os.fstat(self._file).st_size - n_bytes
        return os.pread(self._file, n_bytes, max(0, start))

    def expect(self, start: int, stop: int) -> None:
        """Nothing to do: reading ahead would only push chunks out of the cache."""

    def at(self, n_bytes: int, offset: int) -> bytes:
        return os.pread(self._file, n_bytes, offset)


@dataclass(frozen=True)
class LocalPlace:
    """A directory, made when something is written to it.

    `replace` takes a lock of the directory. On a file system without locks a file
    is still made by one process only, but of two that replace the same version in
    the same instant both may believe to have won.
    """

    root: Path

    def child(self, name: str) -> LocalPlace:
        return LocalPlace(self.root / name)

    def where(self, key: str) -> str:
        return f"{self.root}/{key}"

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()

    def read(self, key: str) -> bytes | None:
        found = self.read_tagged(key)
        return None if found is None else found[0]

    def tag(self, key: str) -> Tag | None:
        try:
            return _tag((self.root / key).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_tagged(self, key: str) -> tuple[bytes, Tag] | None:
        with self._readable(key):
            try:
                with (self.root / key).open("rb") as file:
                    return file.read(), _tag(os.fstat(file.fileno()))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def open(self, key: str) -> LocalFile:
        with self._readable(key):
            return LocalFile(f"{self.root}/{key}")

    def write(self, key: str, parts: Sequence[bytes]) -> None:
        with self._written(key, parts) as (temporary, path):
            temporary.replace(path)

    def replace(self, key: str, parts: Sequence[bytes], expected: Tag | None) -> Tag | None:
        # The slow part, writing, comes first; the lock is held to compare and rename only.
        with self._written(key, parts) as (temporary, path):
            new = _tag(temporary.stat())
            with locked(self.root) as alone:
                if self.tag(key) != expected:
                    return None
                if expected is None and not alone:
                    return new if _linked(temporary, path) else None
                temporary.replace(path)
        return new

    def create(self, key: str, content: bytes) -> bool:
        if self.exists(key):
            return False
        return self.replace(key, [content], None) is not None

    def delete(self, key: str) -> None:
        path = self.root / key
        with self._explained(key):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _sync_directory(path.parent)

    def clear(self) -> None:
        if self.root.exists():
            with self._explained(""):
                shutil.rmtree(self.root)

    def names(self) -> list[str]:
        if not self.root.is_dir():
            return []
        # Locks, and temporary files of writers at work, begin with a dot.
        with os.scandir(self.root) as found:
            return sorted(
                one.name for one in found if not one.name.startswith(".") and one.is_file()
            )

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        # In turns: threads that read at once hand the interpreter to and fro at every chunk,
        # and four are slower together than one alone. Meanwhile the others compute.
        with READING:
            return [function(item) for item in items]

    def hint(self, keys: Iterable[str], start: int, stop: int) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        for key in keys:
            try:
                file = os.open(f"{self.root}/{key}", os.O_RDONLY)
            except OSError:  # whoever reads it will say so
                continue
            try:
                os.posix_fadvise(file, start, stop - start, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(file)

    def zarr_store(self) -> Path:
        return self.root

    def sweep(self, older_than_s: float, *, remove: bool = True) -> int:
        before, n_found = time.time() - older_than_s, 0
        for path in self.root.rglob(".*.tmp"):
            # Its writer may be finishing this moment.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime <= before:
                    if remove:
                        path.unlink()
                    n_found += 1
        return n_found

    @contextlib.contextmanager
    def _written(self, key: str, parts: Sequence[bytes]) -> Iterator[tuple[Path, Path]]:
        """A durable temporary file beside its destination, gone afterwards."""
        path = self.root / key
        # Named by chance, not by process: racing writers may be threads, or other hosts.
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        with self._explained(key):
            try:
                if new_directory := not path.parent.is_dir():
                    path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as file:
                    file.writelines(parts)
                    file.flush()
                    # File systems stamp with a clock that ticks every few milliseconds: two
                    # versions in one tick, the second on the first one's inode, look the same.
                    os.utime(file.fileno(), ns=(time.time_ns(),) * 2)
                    os.fsync(file.fileno())
                yield temporary, path
                _sync_directory(path.parent)
                if new_directory:
                    _sync_directory(path.parent.parent)
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink()

    @contextlib.contextmanager
    def _readable(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(
                f"{self.where(key)} cannot be read: {error.strerror}; check its permissions"
            ) from error

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what the system says into a sentence."""
        try:
            yield
        except OSError as error:
            room = f"{_free_gib(self.root):.2f} GiB free there"
            advice = "make room" if error.errno in NO_ROOM else "check its permissions"
            raise StoreError(
                f"{self.where(key)} cannot be written: {error.strerror}, {room}; "
                f"{advice} and run the same command again"
            ) from error


def _tag(status: os.stat_result) -> Tag:
    return Tag(f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}")


def _linked(temporary: Path, path: Path) -> bool:
    """Move a file where none is, without a lock: a link does not replace what is there."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        temporary.replace(path)
    return True


def _free_gib(path: Path) -> float:
    """Free space where `path` is or would be."""
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free / 2**30


def _sync_directory(path: Path) -> None:
    """Make a new, replaced or removed name durable, where the file system offers it."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
