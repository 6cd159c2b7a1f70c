"""Where a store is kept: a directory, or a prefix of a bucket, behind one interface.

    "runs/paper/adapters.zarr"            a directory (also file:///...)
    "s3://bucket/runs/adapters.zarr"      also gs:// and az://, through obstore

Keys are relative and use `/`. Every write is all or nothing to a reader, and
durable when it returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import unquote, urlsplit

from lorastyle.errors import StoreError
from lorastyle.places.local import LocalPlace
from lorastyle.places.tag import Tag

Item = TypeVar("Item")
Result = TypeVar("Result")

BUCKET_SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "memory")


class ChangedMeanwhileError(Exception):
    """The file was replaced between two reads of it: read it again."""


class OpenFile(Protocol):
    """One version of one file, open for reading pieces of it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def tail(self, n_bytes: int) -> bytes:
        """The last bytes: fewer where the file is shorter."""
        ...

    def expect(self, start: int, stop: int) -> None:
        """What `at` will ask for next, to be fetched at once where requests are slow.

        Raises ChangedMeanwhileError where the file was replaced since `tail`.
        """
        ...

    def at(self, n_bytes: int, offset: int) -> bytes:
        """Some bytes: fewer where the file ends before."""
        ...


class Place(Protocol):
    """A directory or a prefix of a bucket. Cheap to pickle. Failures are StoreErrors."""

    def child(self, name: str) -> Place:
        """A place below this one."""
        ...

    def where(self, key: str) -> str:
        """What to call a file in a message."""
        ...

    def exists(self, key: str) -> bool: ...

    def read(self, key: str) -> bytes | None:
        """All of a file, or None where there is none."""
        ...

    def tag(self, key: str) -> Tag | None:
        """Which version of a file is there, or None where there is none."""
        ...

    def read_tagged(self, key: str) -> tuple[bytes, Tag] | None:
        """All of a file and which version that is, or None where there is none."""
        ...

    def open(self, key: str) -> OpenFile:
        """Open a file. Raises FileNotFoundError, here or on reading, if there is none."""
        ...

    def write(self, key: str, parts: Sequence[bytes]) -> None:
        """Write or replace a file."""
        ...

    def replace(self, key: str, parts: Sequence[bytes], expected: Tag | None) -> Tag | None:
        """Write a file if the one there still is that version; None: if there is none.

        Returns the new version, or None where another one was there: then nothing
        changed. Of any number of processes that expect the same version, one wins.
        """
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Write a file unless there is one; True if it was written."""
        ...

    def delete(self, key: str) -> None:
        """Remove a file if it is there."""
        ...

    def clear(self) -> None:
        """Remove everything that is here and below."""
        ...

    def names(self) -> list[str]:
        """Names of the files directly here, in order; none where nothing is."""
        ...

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Results in the order of `items`, computed at once where latency dominates."""
        ...

    def hint(self, keys: Iterable[str], start: int, stop: int) -> None:
        """These bytes of these files will be read soon: a disk may begin to fetch them."""
        ...

    def zarr_store(self) -> Any:
        """What zarr-python opens as a store, to read."""
        ...

    def sweep(self, older_than_s: float, *, remove: bool = True) -> int:
        """Remove temporary files that killed writers left, or only count them."""
        ...


def place_of(path: Path | str) -> Place:
    """The place of a path or URL. Raises StoreError for a URL of an unknown kind."""
    text = str(path)
    if "://" not in text:
        if found := re.match(rf"({'|'.join(BUCKET_SCHEMES)}|file):/", text):
            # Path("s3://b") is "s3:/b": it would become a directory of that name.
            raise StoreError(f"{text} was a URL; pass {found[1]}://... as text, not as a Path")
        return LocalPlace(Path(path))
    scheme = text.split("://", 1)[0]
    if scheme == "file":
        return LocalPlace(Path(unquote(urlsplit(text).path)))
    if scheme not in BUCKET_SCHEMES:
        known = ", ".join(f"{name}://" for name in (*BUCKET_SCHEMES, "file"))
        raise StoreError(f"{text} is neither a path nor one of {known}")
    # Imported here: most stores are directories and need no network client.
    from lorastyle.places.bucket import BucketPlace

    return BucketPlace(text.rstrip("/"))
