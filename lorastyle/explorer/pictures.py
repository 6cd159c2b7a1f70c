"""Small pictures of the adapters' training images, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd

from lorastyle.corpus.stage import corpus_root, read_catalogue
from lorastyle.errors import CorpusError
from lorastyle.pictures import read_picture
from lorastyle.progress import Progress, Silent
from lorastyle.runs import Run

SIDE, QUALITY = 128, 78
"""Longest side in pixels, and of JPEG: some 4 kB a picture."""
MOST_AN_ADAPTER = 12
MOST_PICTURES = 20_000
"""Pictures of a page. Of more, every adapter loses its last ones first."""


@dataclass(frozen=True)
class Pictures:
    """JPEG files, and for each adapter which of them show its training images."""

    files: Sequence[bytes]
    of_adapter: Sequence[Sequence[int]]

    @property
    def n_bytes(self) -> int:
        return sum(len(content) for content in self.files)


def wanted_images(adapters: pd.DataFrame, most: int = MOST_PICTURES) -> list[str]:
    """Images to show, first every adapter's first one, then every second, up to `most`."""
    wanted: dict[str, None] = {}
    for place in range(MOST_AN_ADAPTER):
        for images in adapters["images"]:
            if place < len(images):
                wanted.setdefault(images[place])
                if len(wanted) >= most:
                    return list(wanted)
    return list(wanted)


def training_pictures(
    run: Run, adapters: pd.DataFrame, progress: Progress | None = None
) -> Pictures:
    """Pictures of the training images. One that is gone or cannot be read is passed over."""
    nothing = Pictures((), tuple(() for _ in range(len(adapters))))
    wanted = wanted_images(adapters)
    if not run.is_planned or not wanted:
        return nothing
    catalogue = read_catalogue(run).drop_duplicates("image_id").set_index("image_id")["path"]
    root = corpus_root(run)
    told = progress or Silent()
    files: list[bytes] = []
    number: dict[str, int] = {}
    for image_id in wanted:
        content = _small(run, root / str(catalogue[image_id])) if image_id in catalogue else None
        if content is not None:
            number[image_id] = len(files)
            files.append(content)
        told.advance()
    shown = [
        tuple(number[one] for one in images[:MOST_AN_ADAPTER] if one in number)
        for images in adapters["images"]
    ]
    return Pictures(files, shown)


def _small(run: Run, path: Path) -> bytes | None:
    try:
        picture = read_picture(run.fetch(path))
    except CorpusError:
        return None
    picture.thumbnail((SIDE, SIDE))
    content = BytesIO()
    picture.save(content, format="JPEG", quality=QUALITY, optimize=True)
    return content.getvalue()
