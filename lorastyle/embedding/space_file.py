"""One file for arrays, a table and a few facts: an `.npz` without pickles, JSON inside.

Reading trusts nothing: whatever is no such file, or is damaged, ends in one sentence.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.errors import StageError
from lorastyle.runs import write_atomically

Arrays = dict[str, npt.NDArray[Any]]
Kept = TypeVar("Kept")

FORMAT, VERSION = "lorastyle style space", 1
FACTS = "facts.json"


def write_archive(path: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Any) -> None:
    """Write arrays and facts (plain JSON) as one file, all of it or nothing."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **facts}, allow_nan=False)
    content = io.BytesIO()
    named: dict[str, Any] = {FACTS: np.frombuffer(text.encode(), np.uint8), **arrays}
    np.savez(content, allow_pickle=False, **named)
    write_atomically(path, content.getvalue())


def read_archive(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and facts that `write_archive` wrote. Raises StageError for anything else."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StageError(
            f"{path} cannot be read ({error.strerror}); save the style space there first"
        ) from error
    try:
        arrays, facts = _parse(content)
        version = facts["version"]
    # Whatever the parsers of zip, NumPy and JSON stumble on: they promise no kind of error.
    except Exception as error:
        raise damaged(path) from error
    if version != VERSION:
        raise StageError(
            f"{path} is a style space of version {version!r}, this release reads {VERSION}; "
            "open it with the release that it was saved with"
        )
    return arrays, facts


def read_kept(
    path: Path, identity: str, parse: Callable[[Arrays, Mapping[str, Any]], Kept]
) -> Kept | None:
    """What `parse` makes of a file whose fact `identity` is this one.

    None where there is no such file, or it is damaged: what is kept can be made again.
    """
    if not path.is_file():
        return None
    try:
        arrays, facts = read_archive(path)
        return parse(arrays, facts) if facts["identity"] == identity else None
    except (StageError, KeyError, TypeError, ValueError):
        return None


def damaged(path: Path) -> StageError:
    """What to raise where a file's content makes no style space."""
    return StageError(f"{path} is not a style space, or is damaged; save the space again")


def table_to_facts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table of plain values as JSON, a column after another."""
    return [
        {
            "name": name,
            "dtype": str(column.dtype),
            "values": [None if pd.isna(value) else value for value in column.tolist()],
        }
        for name, column in table.items()
    ]


def table_from_facts(columns: list[dict[str, Any]]) -> pd.DataFrame:
    """The table that `table_to_facts` was given."""
    return pd.DataFrame(
        {column["name"]: pd.Series(column["values"], dtype=column["dtype"]) for column in columns}
    )


def _parse(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # Nothing is compressed when written: more inside than outside is a trap for memory.
        if sum(member.file_size for member in archive.infolist()) > len(content):
            raise ValueError("the archive expands")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    facts = json.loads(arrays.pop(FACTS).tobytes())
    if facts["format"] != FORMAT:
        raise ValueError(f"the format is {facts['format']!r}")
    return arrays, facts
