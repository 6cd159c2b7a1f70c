"""What is known about adapters in the wild: a CSV of artists, where somebody wrote one."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lorastyle.errors import ConfigError
from lorastyle.records import UNLABELLED, Role

MAX_BYTES = 64 * 2**20
COLUMNS = ("file", "artist", "genre", "role")
MAX_CHARACTERS = 200


@dataclass(frozen=True)
class Label:
    """What a line says of an adapter."""

    artist: str = UNLABELLED
    genre: str = ""
    role: Role = Role.TRAIN


def read_labels(path: Path) -> dict[str, Label]:
    """Labels by file: columns `file`, and any of `artist`, `genre`, `role`.

    `file` is as in the folder that is ingested, or a bare file name. Raises ConfigError
    for a CSV that cannot be read or says something twice.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes, labels at most 64 MiB")
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if "file" not in (reader.fieldnames or ()):
                raise ConfigError(
                    f"{path} has no column 'file', only {', '.join(reader.fieldnames or ['none'])}"
                )
            return _labels(path, reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"the labels {path} cannot be read ({error}); write a CSV") from error


def label_of(labels: Mapping[str, Label], name: str) -> Label | None:
    """The label of a file by its name in the folder, or by its bare name; None without one.

    >>> label_of({"b.pt": Label("monet")}, "a/b.pt").artist
    'monet'
    """
    return labels.get(name) or labels.get(PurePosixPath(name).name)


def plain(text: str) -> str:
    r"""Text of strangers as one line of printable characters, cut to a sane length.

    >>> plain(" a\tb\x1b[31m ")
    'a b [31m'
    """
    printable = "".join(one if one.isprintable() else " " for one in text)
    return " ".join(printable.split())[:MAX_CHARACTERS]


def _labels(path: Path, reader: csv.DictReader[str]) -> dict[str, Label]:
    labels: dict[str, Label] = {}
    for line in reader:
        name = str(PurePosixPath((line.get("file") or "").strip()))
        if name in labels:
            raise ConfigError(f"{path}, line {reader.line_num}: {name!r} is there twice")
        role = (line.get("role") or Role.TRAIN.value).strip()
        if role not in [known.value for known in Role]:
            roles = ", ".join(known.value for known in Role)
            raise ConfigError(
                f"{path}, line {reader.line_num}: there is no role {role!r}; write one of {roles}"
            )
        labels[name] = Label(
            plain(line.get("artist") or UNLABELLED), plain(line.get("genre") or ""), Role(role)
        )
    return labels
