"""A store's files in a bucket, through obstore: S3 and its relatives, Google, Azure.

Addresses and credentials come from the environment, as obstore reads it (for S3:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, or the
machine's role). They are never part of a store, nor of its pickle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PreconditionError,
)
from obstore.store import MemoryStore, from_url
from zarr.storage import ObjectStore

from lorastyle.errors import StoreError
from lorastyle.places.place import ChangedMeanwhileError
from lorastyle.places.tag import Tag

if TYPE_CHECKING:
    from obstore import GetOptions, PutMode
    from obstore.store import ClientConfig, RetryConfig

Item = TypeVar("Item")
Result = TypeVar("Result")

REQUESTS_AT_ONCE = 32
CLIENT_OPTIONS: ClientConfig = {
    "connect_timeout": "3s",
    "timeout": "60s",
    # Only a server whose address somebody set to http:// is reached that way.
    "allow_http": True,
}
RETRY_CONFIG: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
"""An unreachable server is an error within seconds; a hiccup is not."""


class BucketFile:
    """An object, of one version: one that is replaced is noticed, never mixed."""

    def __init__(self, place: BucketPlace, key: str) -> None:
        self._place, self._key = place, key
        self._tag: str | None = None
        self._start, self._content = 0, b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._content = b""

    def tail(self, n_bytes: int) -> bytes:
        content = b""
        with self._past_the_end(0):
            result, content = self._place.get(self._key, {"range": {"suffix": n_bytes}})
            self._tag = result.meta["e_tag"]
        return content

    def expect(self, start: int, stop: int) -> None:
        options: GetOptions = {"range": (start, stop), "if_match": self._tag}
        self._start, self._content = start, b""
        try:
            with self._past_the_end(start):
                _, self._content = self._place.get(self._key, options)
        except PreconditionError as error:
            raise ChangedMeanwhileError from error

    @contextlib.contextmanager
    def _past_the_end(self, start: int) -> Iterator[None]:
        """Bytes that are not there are none: to a server they are an error, not always the same."""
        try:
            yield
        except StoreError:
            if self._place.size(self._key) > start:
                raise

    def at(self, n_bytes: int, offset: int) -> bytes:
        begin = offset - self._start
        return self._content[begin : begin + n_bytes]


@dataclass(frozen=True)
class BucketPlace:
    """A prefix of a bucket. An object appears whole or not at all.

    `replace` and `create` need a server with conditional puts: S3, Google, Azure, MinIO
    and Ceph have them. On one that refuses them the version is looked at and then the
    object written, so that of two processes in the same instant both may believe to
    have won.
    """

    url: str
    """The store's address: `s3://bucket/prefix`."""
    prefix: str = ""
    """Below it: empty, or ending in `/`."""

    def child(self, name: str) -> BucketPlace:
        return BucketPlace(self.url, f"{self.prefix}{name}/")

    def where(self, key: str) -> str:
        return f"{self.url}/{self.prefix}{key}"

    def exists(self, key: str) -> bool:
        return self.tag(key) is not None

    def tag(self, key: str) -> Tag | None:
        with self._explained(key, "read"):
            try:
                return _tag(obstore.head(self._client, self.prefix + key))
            except FileNotFoundError:
                return None

    def read(self, key: str) -> bytes | None:
        found = self.read_tagged(key)
        return None if found is None else found[0]

    def size(self, key: str) -> int:
        """Bytes of an object. Raises FileNotFoundError where there is none."""
        with self._explained(key, "read"):
            return int(obstore.head(self._client, self.prefix + key)["size"])

    def read_tagged(self, key: str) -> tuple[bytes, Tag] | None:
        try:
            result, content = self.get(key, {})
        except FileNotFoundError:
            return None
        return content, _tag(result.meta)

    def get(self, key: str, options: GetOptions) -> tuple[Any, bytes]:
        """What the server says of an object, and its bytes or some of them."""
        with self._explained(key, "read"):
            result = obstore.get(self._client, self.prefix + key, options=options)
            return result, bytes(result.bytes())

    def open(self, key: str) -> BucketFile:
        return BucketFile(self, key)

    def write(self, key: str, parts: Sequence[bytes]) -> None:
        self._put(key, b"".join(parts), "overwrite")

    def _put(self, key: str, content: bytes, mode: PutMode) -> Tag:
        # One request, not several parts: a killed writer leaves nothing behind.
        with self._explained(key, "written"), self._no_bucket(key):
            path = self.prefix + key
            return _tag(obstore.put(self._client, path, content, mode=mode, use_multipart=False))

    def replace(self, key: str, parts: Sequence[bytes], expected: Tag | None) -> Tag | None:
        try:
            return self._put(key, b"".join(parts), _mode(expected))
        except (AlreadyExistsError, PreconditionError):
            return None
        except NotSupportedError:
            if self.tag(key) != expected:
                return None
            return self._put(key, b"".join(parts), "overwrite")

    def create(self, key: str, content: bytes) -> bool:
        return self.replace(key, [content], None) is not None

    def delete(self, key: str) -> None:
        with self._explained(key, "deleted"), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._client, self.prefix + key)

    def clear(self) -> None:
        with self._explained("", "deleted"):
            for listed in obstore.list(self._client, self.prefix or None):
                obstore.delete(self._client, [str(entry["path"]) for entry in listed])

    def names(self) -> list[str]:
        with self._explained("", "listed"):
            listed = obstore.list_with_delimiter(self._client, self.prefix or None)
        return sorted(str(entry["path"]).rsplit("/", 1)[-1] for entry in listed["objects"])

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        items = list(items)
        with ThreadPoolExecutor(max(1, min(REQUESTS_AT_ONCE, len(items)))) as pool:
            return list(pool.map(function, items))

    def hint(self, keys: Iterable[str], start: int, stop: int) -> None:
        """Nothing to do: rows are requested together when they are read."""

    def zarr_store(self) -> Any:
        return ObjectStore(self._client, read_only=True)

    def sweep(self, older_than_s: float, *, remove: bool = True) -> int:
        """Nothing to do: an unfinished upload is no object."""
        return 0

    @property
    def _client(self) -> Any:
        return _client(self.url)

    @contextlib.contextmanager
    def _explained(self, key: str, done: str) -> Iterator[None]:
        """Turn what the client says into a sentence; conditions that failed pass."""
        try:
            yield
        except (AlreadyExistsError, PreconditionError, NotSupportedError):
            raise
        except BaseError as error:
            raise StoreError(f"{self.where(key)} cannot be {done}: {_reason(error)}") from error

    @contextlib.contextmanager
    def _no_bucket(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.where(key)} cannot be written: there is no such bucket; make it first"
            ) from error


def _tag(described: Any) -> Tag:
    """The version in what the server said of an object: Google counts, the others hash."""
    return Tag(str(described["e_tag"]), described["version"])


def _mode(expected: Tag | None) -> PutMode:
    if expected is None:
        return "create"
    if expected.version is None:
        return {"e_tag": expected.name}
    return {"e_tag": expected.name, "version": expected.version}


@lru_cache(maxsize=64)
def _client(url: str) -> Any:
    """One client, with its connections, a store and process."""
    try:
        if url.startswith("memory:"):
            return MemoryStore()
        return from_url(url, client_options=CLIENT_OPTIONS, retry_config=RETRY_CONFIG)
    except (BaseError, ValueError) as error:
        raise StoreError(f"{url} cannot be opened: {_gist(error)}; check the address") from error


def _reason(error: Exception) -> str:
    """What is wrong, and what to do about it."""
    if "169.254.169.254" in str(error) or "metadata.google.internal" in str(error):
        # Where a cloud's machine would tell its role: it was asked because nothing else was set.
        return (
            "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "GOOGLE_APPLICATION_CREDENTIALS, or give the machine a role that may use the bucket"
        )
    return f"{_gist(error)}; check the address, the credentials and the network"


def _gist(error: Exception) -> str:
    """The first line of what may be a page."""
    return str(error).split("\n", 1)[0].strip()[:300]
