"""Files of a stage on their way between a working copy and its bucket.

A stage works on files of this machine. When it is done they are published, and its
manifest, written last, lists them: name, size, sha256. Another machine pulls what is
listed and not there yet, and checks it. In the bucket a file's name carries its
digest, so that two machines that finish the same stage never write over each other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from lorastyle.errors import StageError
from lorastyle.file_contents import sha256_of
from lorastyle.places.place import Place
from lorastyle.runs.writing import write_atomically

Entry = Mapping[str, Any]
Files = Mapping[str, Entry]
"""By name relative to the run: its `size` in bytes and its `sha256`."""

LARGE = 2**23
"""Files of more bytes are moved one at a time: many at once would fill the memory."""


def publish(place: Place, directory: Path, names: Iterable[str]) -> dict[str, Entry]:
    """Write these files of a working copy to the bucket; what to list in a manifest."""

    def put(name: str) -> tuple[str, Entry]:
        content = (directory / name).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        # Even where the object is there already: it may be damaged.
        place.write(key_of(name, sha256), [content])
        return name, {"size": len(content), "sha256": sha256}

    small, large = _by_size({name: (directory / name).stat().st_size for name in names})
    return dict(sorted([*place.each(put, small), *map(put, large)]))


def pull(place: Place, directory: Path, files: Files) -> None:
    """Bring these files into the working copy, where it does not hold them as they are listed.

    Raises StageError naming one that is gone or damaged in the bucket.
    """

    def get(name: str) -> None:
        write_atomically(directory / name, _read(place, name, files[name]), durable=False)

    stale = [name for name in files if not _holds(directory / inside(name), files[name])]
    small, large = _by_size({name: int(files[name]["size"]) for name in stale})
    place.each(get, small)
    for name in large:
        get(name)


def key_of(name: str, sha256: str) -> str:
    """A file's key in the bucket.

    >>> key_of("evaluation/metrics.json", "3f0a" * 16)
    'evaluation/metrics.3f0a3f0a3f0a3f0a.json'
    """
    path = PurePosixPath(name)
    key = path.with_name(f"{path.stem}.{sha256[:16]}{path.suffix}").as_posix()
    # Strangers' images may be named by anything; control characters are no part of a key.
    return re.sub(r"[\x00-\x1f\x7f]", "_", key)


def files_below(directory: Path, outputs: Iterable[str]) -> Iterator[str]:
    """Names, relative to `directory`, of the files that these outputs are or hold.

    Hidden ones are somebody's unfinished work.
    """
    for output in outputs:
        top = directory / output
        paths = [top] if top.is_file() else sorted(top.rglob("*"))
        for path in paths:
            relative = path.relative_to(directory)
            if path.is_file() and not any(part.startswith(".") for part in relative.parts):
                yield relative.as_posix()


def inside(name: str) -> str:
    """The name itself. Raises StageError for one that leads out of the run."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise StageError(f"a manifest lists {name!r}, which is no file inside the run; delete it")
    return name


def _read(place: Place, name: str, entry: Entry) -> bytes:
    key = key_of(name, entry["sha256"])
    content = place.read(key)
    if content is None:
        raise StageError(
            f"{place.where(key)} is listed by a manifest and gone; "
            "make its stage again with --force"
        )
    if len(content) != entry["size"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise StageError(
            f"{place.where(key)} is damaged ({len(content):,} bytes, {entry['size']:,} were "
            "written, or other ones); make its stage again with --force"
        )
    return content


def _holds(path: Path, entry: Entry) -> bool:
    try:
        return path.stat().st_size == entry["size"] and sha256_of(path) == str(entry["sha256"])
    except (FileNotFoundError, NotADirectoryError):
        return False


def _by_size(sizes: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Names of small files, and of large ones."""
    large = [name for name, size in sizes.items() if size > LARGE]
    return [name for name in sizes if sizes[name] <= LARGE], large
