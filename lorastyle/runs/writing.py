"""Small files, written so that a reader sees all of one or nothing."""

from __future__ import annotations

import io
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a small file so that a reader sees all of it or nothing.

    `durable` waits for the disk; without it a power cut may lose the file, not tear it.
    """
    data = content.encode() if isinstance(content, str) else content
    with _replacing(path, durable=durable) as file:
        file.write(data)


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a `.npy` file atomically, without a copy of the array in memory."""
    with _replacing(path) as file:
        np.save(file, array, allow_pickle=False)


@contextmanager
def _replacing(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unique among threads, processes and hosts that share the directory.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically, without its index."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Write JSON atomically; NaN is an error, never a token in the file."""
    write_atomically(path, json_text(value), durable=durable)


def json_text(value: object) -> str:
    """JSON for people to read. Raises ValueError for NaN."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
