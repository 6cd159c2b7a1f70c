"""Where a run lies: a directory, or a prefix of a bucket with a working copy here."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lorastyle.errors import ConfigError, StageError
from lorastyle.places.place import BUCKET_SCHEMES, place_of

CACHE_VARIABLE = "LORASTYLE_CACHE"
"""Environment variable: where working copies of runs in buckets are kept."""


def location(text: Path | str) -> Path | str:
    """What a user typed as the place of a run: a path, or a URL as text.

    Raises ConfigError for a URL without a bucket, StoreError for one of an unknown kind.

    >>> location("s3://bucket/runs/paper/")
    's3://bucket/runs/paper'
    >>> location("runs/paper")
    PosixPath('runs/paper')
    """
    url = str(text)
    if found := re.match(rf"({'|'.join(BUCKET_SCHEMES)}):/(?!/)", url):
        raise ConfigError(
            f"{url} is no URL, for it lacks a slash; write {found[1]}://BUCKET/PREFIX"
        )
    place_of(url)
    if "://" not in url:
        return Path(text)
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if not parts.netloc:
        raise ConfigError(f"{url} names no bucket; write {parts.scheme}://BUCKET/PREFIX")
    return url.rstrip("/")


def beside(place: Path | str, name: str) -> Path | str:
    """The location `name` inside another."""
    return f"{place}/{name}" if isinstance(place, str) else place / name


def working_copy(url: str) -> Path:
    """The directory of this machine that holds copies of a bucket run's files.

    The same for every process of a user.
    """
    name = re.sub(r"[^\w-]+", "-", url.rsplit("/", 1)[-1])[:40]
    return _cache() / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def make_working_copy(url: str) -> None:
    """Make that directory where it is not there. Raises StageError where that is impossible."""
    path = working_copy(url)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StageError(
            f"no working copy of {url} can be made in {path}: {error.strerror}; "
            f"set {CACHE_VARIABLE} to a directory with room"
        ) from error


def _cache() -> Path:
    """Where working copies lie: LORASTYLE_CACHE, or below the user's cache directory."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).absolute()
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user).expanduser().absolute() / "lorastyle" / "runs"
