"""A folder of images by artist, read with distrust.

What cannot be used is left out *and named*: a corrupt file that silently
vanished would change which images every later adapter is trained on.
"""

from __future__ import annotations

import csv
import hashlib
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from PIL import Image

from lorastyle.corpus.works import (
    CAPTION_SUFFIXES,
    Entry,
    LeftOut,
    Work,
    read_work,
    side_car_text,
    without_duplicates,
)
from lorastyle.errors import CorpusError
from lorastyle.progress import Progress, Silent

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
INDEX_NAME = "index.csv"
N_READERS = 4


def read_folder(
    root: Path,
    metadata_csv: Path | None = None,
    *,
    min_side: int = 1,
    shown: Progress | None = None,
) -> tuple[list[Work], list[LeftOut]]:
    """Every usable image below `root`, by image id, and everything left out.

    Images are `root/ARTIST/.../IMAGE`, or those a CSV lists: column `file`,
    relative to `root`, and any of `artist`, `genre`, `caption`. Without
    `metadata_csv`, `root/index.csv` is used where there is one. A caption is the
    CSV's, else the text of IMAGE.txt or IMAGE.caption, else empty.

    Left out: what cannot be decoded, has a side below `min_side` pixels or more
    than MAX_PIXELS, leads outside `root`, is not listed, or repeats another
    image. Raises CorpusError where there is no folder or no usable image, and
    for a CSV that is malformed or names a path outside `root`.
    """
    if not root.is_dir():
        raise CorpusError(f"there is no folder {root}; set corpus.path to a folder PATH/ARTIST/")
    entries, left_out = _list_entries(root, index_file(root, metadata_csv))
    works, unusable = _read_works(root, entries, min_side, shown)
    left_out += unusable
    if not works:
        example = f"; first: {left_out[0].file}: {left_out[0].reason}" if left_out else ""
        raise CorpusError(f"{root} has no usable image among {len(left_out)} files{example}")
    return works, sorted(left_out, key=lambda item: item.file)


def read_pictures(
    root: Path, *, min_side: int = 1, shown: Progress | None = None
) -> tuple[list[Work], list[LeftOut]]:
    """Every usable image below `root`, whoever made it, and everything left out.

    They lie in it or in folders of it; no CSV is read, and a caption is the text beside an image.
    """
    found, left_out = _scan(root)
    works, unusable = _read_works(root, [Entry(path, "") for path in found], min_side, shown)
    return works, sorted([*left_out, *unusable], key=lambda item: item.file)


def count_images(root: Path) -> int:
    """Files below `root` that are named as images."""
    return sum(path.suffix.lower() in SUFFIXES for path in root.rglob("*"))


def _read_works(
    root: Path, entries: Sequence[Entry], min_side: int, shown: Progress | None
) -> tuple[list[Work], list[LeftOut]]:
    works: list[Work] = []
    left_out: list[LeftOut] = []
    shown = shown or Silent()
    # The filters belong to the process, so they are set once, around all readers.
    with warnings.catch_warnings(), ThreadPoolExecutor(N_READERS) as readers:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Of metadata that cannot be read, one for each file; the pictures are whole without it.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        for read in readers.map(lambda entry: read_work(root, entry, min_side), entries):
            if isinstance(read, Work):
                works.append(read)
            else:
                left_out.append(read)
            shown.advance()
    works, repeated = without_duplicates(works)
    return works, left_out + repeated


def index_file(root: Path, metadata_csv: Path | None) -> Path | None:
    """The CSV that describes the images, if any: the one given, or `root/index.csv`."""
    if metadata_csv is not None:
        return metadata_csv
    return root / INDEX_NAME if (root / INDEX_NAME).is_file() else None


def folder_digest(root: Path, metadata_csv: Path | None = None) -> str:
    """SHA-256 of what a plan depends on in a folder: names, sizes, texts.

    Images count by name and size only. Reading all of them to find that nothing
    changed would make every repeated command slow, and modification times differ
    between copies of one folder.
    """
    if not root.is_dir():
        raise CorpusError(f"there is no folder {root}; set corpus.path to a folder PATH/ARTIST/")
    hasher = hashlib.sha256()
    for path in sorted(_walk(root), key=lambda path: path.as_posix()):
        name, size = path.relative_to(root).as_posix(), path.stat().st_size if path.exists() else -1
        hasher.update(f"{name}\0{size}\0{side_car_text(path, root)}\0".encode())
    described_by = index_file(root, metadata_csv)
    if described_by is not None and described_by.is_file():
        hasher.update(described_by.read_bytes())
    return hasher.hexdigest()


def _list_entries(root: Path, index: Path | None) -> tuple[list[Entry], list[LeftOut]]:
    """What there is to look at, by path, and the files that are not."""
    found, left_out = _scan(root)
    if index is None:
        return [Entry(path, PurePosixPath(path).parts[0]) for path in found if "/" in path], [
            *left_out,
            *(LeftOut(path, "not in an artist's folder") for path in found if "/" not in path),
        ]
    entries, repeated = _read_index(index)
    listed = {entry.path for entry in entries}
    left_out += repeated
    left_out += [
        LeftOut(path, f"not listed in {index.name}") for path in found if path not in listed
    ]
    return entries, left_out


def _walk(root: Path) -> Iterator[Path]:
    """Files and links below `root`; hidden ones, which systems scatter about, are none of ours."""
    for path in root.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if (path.is_file() or path.is_symlink()) and not hidden:
            yield path


def _scan(root: Path) -> tuple[list[str], list[LeftOut]]:
    """Relative paths of images below `root`, sorted, and of files in other formats."""
    images, others = [], []
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        if not path.is_file():
            others.append(LeftOut(name, "a link to a folder or to nothing; it is not followed"))
        elif path.suffix.lower() in SUFFIXES:
            images.append(name)
        elif "/" in name and path.suffix.lower() not in CAPTION_SUFFIXES:
            others.append(LeftOut(name, f"not one of {', '.join(SUFFIXES)}"))
    return sorted(images), others


def _read_index(index: Path) -> tuple[list[Entry], list[LeftOut]]:
    """The rows of the CSV, by path, and those that repeat a file."""
    try:
        with index.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CorpusError(f"cannot read {index}: {reason}; set corpus.metadata") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{index} is not a CSV in UTF-8: {error}") from error
    if not rows or "file" not in rows[0]:
        columns = ", ".join(str(name) for name in rows[0]) if rows else "no rows"
        raise CorpusError(f"{index} needs a column 'file' and at least one row; it has {columns}")
    entries: dict[str, Entry] = {}
    repeated = []
    for line, row in enumerate(rows, start=2):
        entry = _entry(row, where=f"{index.name}, line {line}")
        if entry.path in entries:
            repeated.append(LeftOut(entry.path, f"listed again in {index.name}, line {line}"))
        entries.setdefault(entry.path, entry)
    return [entries[path] for path in sorted(entries)], repeated


def _entry(row: dict[str, str], where: str) -> Entry:
    file, artist, genre, caption = (
        (row.get(column) or "").strip() for column in ("file", "artist", "genre", "caption")
    )
    path = PurePosixPath(file)
    if not file or path.is_absolute() or ".." in path.parts or "\0" in file:
        raise CorpusError(f"{where}: {file!r} is not a path inside the folder; write ARTIST/IMAGE")
    if not artist and len(path.parts) < 2:
        raise CorpusError(f"{where}: {file!r} has no artist; add a column 'artist'")
    name = unicodedata.normalize("NFC", artist or path.parts[0])
    # Names become parts of adapter ids, and those of file names.
    if "/" in name or "\\" in name or not name.isprintable():
        raise CorpusError(f"{where}: artist {name!r} holds a slash or a control character")
    return Entry(path.as_posix(), name, genre, caption)
