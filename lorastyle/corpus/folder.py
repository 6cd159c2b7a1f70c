"""A folder of images by artist, read with distrust.

What cannot be used is left out *and named*: a corrupt file that silently
vanished would change which images every later adapter is trained on.
"""

from __future__ import annotations

import csv
import hashlib
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from lorastyle.errors import CorpusError
from lorastyle.pictures import FORMATS, MAX_PIXELS, on_white, upright
from lorastyle.progress import Progress, Silent

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
CAPTION_SUFFIXES = (".txt", ".caption")
"""Of files with the caption of the image beside them, as trainers write them: the first counts."""
INDEX_NAME = "index.csv"
MAX_CAPTION_CHARACTERS = 2_000
N_READERS = 4


@dataclass(frozen=True)
class Work:
    """One usable image: a row of the catalogue, but for its split.

    ``path`` is relative to the corpus root, with forward slashes, and serves as
    ``image_id``. ``content_hash`` is the SHA-256 of the picture as it is seen and
    trained on (`lorastyle.pictures`), but for 16-bit ones, which count in full
    depth: a copy in another file format of the same depth has the same one.
    Width and height are those of the upright picture. ``caption`` is the user's
    own until captions are finished, and may be empty.
    """

    image_id: str
    path: str
    artist: str
    genre: str
    caption: str
    content_hash: str
    width: int
    height: int


@dataclass(frozen=True)
class LeftOut:
    """A file, or a whole artist, that is not used, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class _Entry:
    """A file to be looked at, and what is said about it."""

    path: str
    artist: str
    genre: str = ""
    caption: str = ""


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
    works, unusable = _read_works(root, [_Entry(path, "") for path in found], min_side, shown)
    return works, sorted([*left_out, *unusable], key=lambda item: item.file)


def count_images(root: Path) -> int:
    """Files below `root` that are named as images."""
    return sum(path.suffix.lower() in SUFFIXES for path in root.rglob("*"))


def _read_works(
    root: Path, entries: Sequence[_Entry], min_side: int, shown: Progress | None
) -> tuple[list[Work], list[LeftOut]]:
    works: list[Work] = []
    left_out: list[LeftOut] = []
    shown = shown or Silent()
    # The filters belong to the process, so they are set once, around all readers.
    with warnings.catch_warnings(), ThreadPoolExecutor(N_READERS) as readers:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Of metadata that cannot be read, one for each file; the pictures are whole without it.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        for read in readers.map(lambda entry: _read_work(root, entry, min_side), entries):
            if isinstance(read, Work):
                works.append(read)
            else:
                left_out.append(read)
            shown.advance()
    works, repeated = _without_duplicates(works)
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
        hasher.update(f"{name}\0{size}\0{_side_car_text(path, root)}\0".encode())
    described_by = index_file(root, metadata_csv)
    if described_by is not None and described_by.is_file():
        hasher.update(described_by.read_bytes())
    return hasher.hexdigest()


def _list_entries(root: Path, index: Path | None) -> tuple[list[_Entry], list[LeftOut]]:
    """What there is to look at, by path, and the files that are not."""
    found, left_out = _scan(root)
    if index is None:
        return [_Entry(path, PurePosixPath(path).parts[0]) for path in found if "/" in path], [
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


def _read_index(index: Path) -> tuple[list[_Entry], list[LeftOut]]:
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
    entries: dict[str, _Entry] = {}
    repeated = []
    for line, row in enumerate(rows, start=2):
        entry = _entry(row, where=f"{index.name}, line {line}")
        if entry.path in entries:
            repeated.append(LeftOut(entry.path, f"listed again in {index.name}, line {line}"))
        entries.setdefault(entry.path, entry)
    return [entries[path] for path in sorted(entries)], repeated


def _entry(row: dict[str, str], where: str) -> _Entry:
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
    return _Entry(path.as_posix(), name, genre, caption)


def _read_work(root: Path, entry: _Entry, min_side: int) -> Work | LeftOut:
    path = root / entry.path
    if not path.is_file():
        return LeftOut(entry.path, "there is no such file")
    if not _is_inside(path, root):
        return LeftOut(entry.path, "leads outside the folder")
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                return LeftOut(entry.path, f"{width} x {height} is over {MAX_PIXELS} pixels")
            if min(width, height) < min_side:
                return LeftOut(entry.path, f"{width} x {height} is below {min_side} a side")
            picture = upright(image)
            content_hash = _hash_pixels(picture)
    # Decoders raise whatever their format's parser happens to trip over.
    except Exception as error:
        return LeftOut(entry.path, f"cannot be decoded: {' '.join(str(error).split())}")
    return Work(
        image_id=entry.path,
        path=entry.path,
        artist=entry.artist,
        genre=entry.genre or "unknown",
        caption=entry.caption or _caption_beside(path, root),
        content_hash=content_hash,
        width=picture.width,
        height=picture.height,
    )


def _hash_pixels(picture: Image.Image) -> str:
    """SHA-256 of size and pixels."""
    # Eight bits are trained on; but pictures that differ in the others are no copies.
    pixels = picture if picture.mode.startswith("I;16") else on_white(picture)
    header = f"{pixels.mode} {pixels.width} x {pixels.height}:"
    return hashlib.sha256(header.encode() + pixels.tobytes()).hexdigest()


def _is_inside(path: Path, root: Path) -> bool:
    """False for a link that leads elsewhere: a shared corpus must not read its reader's files."""
    return path.resolve().is_relative_to(root.resolve())


def _caption_beside(image: Path, root: Path) -> str:
    """The first text there is in a file of an image's name."""
    texts = (_side_car_text(image.with_suffix(suffix), root) for suffix in CAPTION_SUFFIXES)
    return next(filter(None, texts), "")


def _side_car_text(path: Path, root: Path) -> str:
    """The text of a caption file on one line; empty for any other file, or none."""
    if path.suffix.lower() not in CAPTION_SUFFIXES:
        return ""
    if not path.is_file() or not _is_inside(path, root):
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return " ".join(file.read(MAX_CAPTION_CHARACTERS).split())


def _without_duplicates(works: Sequence[Work]) -> tuple[list[Work], list[LeftOut]]:
    """Keep one of an artist's equal images, and none that several artists share.

    Either would put one picture into two splits, or under two labels.
    """
    by_content: dict[str, list[Work]] = defaultdict(list)
    for work in works:
        by_content[work.content_hash].append(work)
    kept, left_out = [], []
    for work in works:
        equal = by_content[work.content_hash]
        stranger = next((other for other in equal if other.artist != work.artist), None)
        if stranger is not None:
            reason = f"the same picture as {stranger.path}, by another artist"
            left_out.append(LeftOut(work.path, reason))
        elif work is not equal[0]:
            left_out.append(LeftOut(work.path, f"the same picture as {equal[0].path}"))
        else:
            kept.append(work)
    return kept, left_out
