"""`Finding`: one thing that is wrong with a file, said in one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
"""Where a value lies in a document: keys and list positions from the top."""

_SHOWN = 60


@dataclass(frozen=True)
class Finding:
    """`problem` says what is wrong with the value at `path`, and what to do."""

    file: str
    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {written(self.path)} {self.problem}"


def written(path: Path) -> str:
    """A path as people write it.

    >>> written(("spec", "workerGroupSpecs", 0, "replicas"))
    'spec.workerGroupSpecs[0].replicas'
    >>> written(())
    'the file'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the file"


def shown(value: Any) -> str:
    """A value within a sentence, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """What to do about an unknown name: the known one that was probably meant.

    >>> nearest("idle_timeout_minute", ["idle_timeout_minutes", "provider"])
    "did you mean 'idle_timeout_minutes'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else "take it out"


def at(document: Any, path: Path, default: Any = None) -> Any:
    """The value at a path, or `default` where there is none."""
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return default
    return document


def leaves(document: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is neither a mapping nor a list, with its path."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield from leaves(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from leaves(value, (*path, index))
    else:
        yield path, document


def option(command: str, name: str) -> str | None:
    """The value of `--name=VALUE` or `--name VALUE` in a shell command; None where it is absent.

    >>> option("ray start --head --port=6379", "--port")
    '6379'
    """
    found = re.search(rf"(?<!\S){re.escape(name)}(?:=|\s+)(\S+)", command)
    return found.group(1) if found else None
