"""One file for arrays, a table and a few facts: an `.npz` without pickles, JSON inside.

Reading trusts nothing: whatever is no such file, or is damaged, ends in one sentence.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.errors import StageError
from lorastyle.runs import write_atomically

Arrays = dict[str, npt.NDArray[Any]]

FORMAT, VERSION = "lorastyle style space", 1
FACTS = "facts.json"
DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)
"""What reading a file that is not ours, or no longer whole, may raise."""


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
        _refuse_expansion(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(arrays.pop(FACTS).tobytes())
        found, version = facts["format"], facts["version"]
    except OSError as error:
        raise StageError(
            f"{path} cannot be read ({error.strerror or error}); save the style space there first"
        ) from error
    except DAMAGE as error:
        raise damaged(path) from error
    if found != FORMAT:
        raise damaged(path)
    if version != VERSION:
        raise StageError(
            f"{path} is a style space of version {version!r}, this release reads {VERSION}; "
            "open it with the release that it was saved with"
        )
    return arrays, facts


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


def _refuse_expansion(path: Path) -> None:
    """Nothing is compressed when written: more content than file is a trap for memory."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise ValueError("the archive expands")
