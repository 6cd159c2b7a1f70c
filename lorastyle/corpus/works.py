"""One image of a stranger's folder: whether it can be used, and what is known of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lorastyle.pictures import FORMATS, MAX_PIXELS, on_white, upright

CAPTION_SUFFIXES = (".txt", ".caption")
"""Of files with the caption of the image beside them, as trainers write them: the first counts."""
MAX_CAPTION_CHARACTERS = 2_000


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
class Entry:
    """A file to be looked at, and what is said about it."""

    path: str
    artist: str
    genre: str = ""
    caption: str = ""


def read_work(root: Path, entry: Entry, min_side: int) -> Work | LeftOut:
    """The image that an entry names, decoded whole; or why it is not used."""
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


def without_duplicates(works: Sequence[Work]) -> tuple[list[Work], list[LeftOut]]:
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


def _is_inside(path: Path, root: Path) -> bool:
    """False for a link that leads elsewhere: a shared corpus must not read its reader's files."""
    return path.resolve().is_relative_to(root.resolve())


def _caption_beside(image: Path, root: Path) -> str:
    """The first text there is in a file of an image's name."""
    texts = (side_car_text(image.with_suffix(suffix), root) for suffix in CAPTION_SUFFIXES)
    return next(filter(None, texts), "")


def side_car_text(path: Path, root: Path) -> str:
    """The text of a caption file on one line; empty for any other file, or none."""
    if path.suffix.lower() not in CAPTION_SUFFIXES:
        return ""
    if not path.is_file() or not _is_inside(path, root):
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return " ".join(file.read(MAX_CAPTION_CHARACTERS).split())
