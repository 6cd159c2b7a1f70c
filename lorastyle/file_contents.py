"""What files of a model hold, whoever wrote them: configs within a limit, and digests of any.

A file is hashed once a process, and again where its size or time says that it changed: a base
model's gigabytes take seconds, and many ask for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

CONFIG_LIMIT = 2**20
"""Bytes. Configs of models have a few thousand; a stranger's file may have any number."""


def read_config(path: Path, refused: Callable[[Exception], Exception]) -> dict[str, Any]:
    """A model's config, a JSON object of at most CONFIG_LIMIT bytes.

    Raises what `refused` makes of the reason where there is none that can be read.
    """
    try:
        if path.stat().st_size > CONFIG_LIMIT:
            raise ValueError("it is larger than 1 MiB")
        return dict(json.loads(path.read_text("utf-8")))
    # The last one where lists are nested thousands deep.
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise refused(error) from error


def names_in(folder: Path) -> list[str]:
    """The files of a folder, by name, in no order. Raises OSError."""
    return [path.name for path in folder.iterdir() if path.is_file()]


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hexadecimal, as `sha256sum` has it. Raises OSError."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


def sha256_of_all(files: Iterable[tuple[str, Path]]) -> str:
    """Of each file's label and bytes, one after the other. Raises OSError."""
    seen = []
    for label, path in files:
        status = path.stat()
        seen.append((label, path, status.st_size, status.st_mtime_ns))
    return _sha256_of_all(tuple(seen))


@lru_cache(maxsize=65_536)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=8)
def _sha256_of_all(files: tuple[tuple[str, Path, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for label, path, _, _ in files:
        whole.update(label.encode())
        with path.open("rb") as file:
            while block := file.read(2**20):
                whole.update(block)
    return whole.hexdigest()
