"""Documents against the table `fields.yaml`: unknown names, missing ones, wrong types.

The definitions of KubeRay's resources are a megabyte each; what our files use fits
on two pages. Where a field is missing there, it is not in the definition or is not
meant for a Ray pod.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from cluster._finding import Finding, Path, nearest, shown

_TABLE = pathlib.Path(__file__).with_name("fields.yaml")
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
_SCALES = {"m": 1e-3, "": 1.0} | {
    unit: base ** (power + 1)
    for base, units in (
        (1000, ("k", "M", "G", "T", "P", "E")),
        (1024, ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")),
    )
    for power, unit in enumerate(units)
}
_PLAIN = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


@functools.cache
def table() -> Mapping[str, Any]:
    """The table, as it was read."""
    loaded: Mapping[str, Any] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return loaded


def check(file: str, document: Any, kind: Any, path: Path = ()) -> Iterator[Finding]:
    """Findings for `document` as a value of `kind`, a type of the table."""
    if isinstance(kind, Mapping):
        yield from _block(file, document, kind, path)
    elif isinstance(kind, list):
        yield from _list(file, document, kind[0], path)
    elif kind.startswith("{"):
        yield from _mapping(file, document, kind[1:-1], path)
    elif kind in table():
        yield from _block(file, document, table()[kind], path)
    elif problem := _scalar(document, kind):
        yield Finding(file, path, f"is {shown(document)}; {problem}")


def _block(file: str, document: Any, fields: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    if not isinstance(document, Mapping):
        yield Finding(file, path, f"is {shown(document)}; write a mapping of fields")
        return
    known = {name.rstrip("!"): (kind, name.endswith("!")) for name, kind in fields.items()}
    for name, value in document.items():
        if name in known:
            yield from check(file, value, known[name][0], (*path, name))
        else:
            yield Finding(file, (*path, name), f"is no known field; {nearest(str(name), known)}")
    for name, (_, required) in known.items():
        if required and name not in document:
            yield Finding(file, (*path, name), "is missing; it must be given")


def _list(file: str, document: Any, kind: Any, path: Path) -> Iterator[Finding]:
    if not isinstance(document, list):
        yield Finding(file, path, f"is {shown(document)}; write a list")
        return
    for index, value in enumerate(document):
        yield from check(file, value, kind, (*path, index))


def _mapping(file: str, document: Any, kind: str, path: Path) -> Iterator[Finding]:
    if not isinstance(document, Mapping):
        yield Finding(file, path, f"is {shown(document)}; write a mapping")
        return
    for name, value in document.items():
        yield from check(file, value, kind, (*path, name))


def _scalar(value: Any, kind: str) -> str | None:
    """What to write instead, or None where the value is right."""
    if kind == "any":
        return None
    if kind == "quantity":
        return None if quantity(value) is not None else "write a quantity, as 500m or 48Gi"
    if kind in _PLAIN:
        # In Python True is an integer; in YAML it is not.
        right = isinstance(value, _PLAIN[kind]) and (kind == "boolean") == isinstance(value, bool)
        quotes = kind == "string" and isinstance(value, (bool, int, float))
        article = "an" if kind == "integer" else "a"
        return None if right else f"write {article} {kind}" + (", in quotes" if quotes else "")
    choices = kind.removeprefix("=").split("|")
    return None if value in choices else f"write {' or '.join(choices)}"


def quantity(value: Any) -> float | None:
    """A quantity of Kubernetes as a number, or None where it is none.

    >>> quantity("500m"), quantity("1Ki"), quantity(2), quantity("48 GB")
    (0.5, 1024.0, 2.0, None)
    """
    found = None if isinstance(value, bool) else _QUANTITY.fullmatch(str(value))
    if not found:
        return None
    number, unit = float(found.group(1)), found.group(2) or ""
    return number * _SCALES[unit] if unit in _SCALES else float(f"{number}{unit}")
