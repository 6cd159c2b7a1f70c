"""Small pictures of the artists' works, and of what adapters were trained on."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image, ImageOps

from lorastyle.corpus.stage import corpus_root, read_plan
from lorastyle.errors import CorpusError
from lorastyle.pictures import read_picture
from lorastyle.runs import Run

SIDE = 128
"""Longest side in pixels: sharp at twice the 62 CSS pixels of a tooltip."""
WORKS_PER_ARTIST = 4
QUALITY = 84


@dataclass(frozen=True)
class TrainingPictures:
    """The images that planned adapters were trained on, small and square."""

    run: Run
    catalogue: pd.DataFrame

    def images_of(self, adapter_id: str) -> list[str]:
        """Identifiers of its training images; none of an adapter that is not in the plan."""
        return list(self._planned.get(adapter_id, ()))

    def square(self, image_id: str) -> Image.Image | None:
        """The middle of an image, `SIDE` pixels each way; None where it cannot be read."""
        path = self._paths.get(image_id)
        return None if path is None else square(self.run, path)

    @cached_property
    def _planned(self) -> Mapping[str, Iterable[str]]:
        return {spec.adapter_id: spec.image_ids for spec in read_plan(self.run)}

    @cached_property
    def _paths(self) -> Mapping[str, Path]:
        root = corpus_root(self.run)
        names = self.catalogue[["image_id", "path"]].itertuples(index=False, name=None)
        return {str(image_id): root / str(path) for image_id, path in names}


def square(run: Run, path: Path) -> Image.Image | None:
    """The middle of an image file, `SIDE` pixels each way; None where it cannot be read."""
    picture = _read(run.fetch(path))
    return None if picture is None else ImageOps.fit(picture, (SIDE, SIDE))


def works_of_artists(run: Run, catalogue: pd.DataFrame) -> dict[str, list[str]]:
    """For each artist, up to four works spread over the catalogue, as `data:` addresses.

    An image that is gone or cannot be read is passed over: the report is about
    scores, and says so without pictures.
    """
    root = corpus_root(run)
    works: dict[str, list[str]] = {}
    for artist, rows in catalogue.sort_values("image_id").groupby("artist"):
        paths = [root / path for path in rows["path"]]
        step = max(1, len(paths) // WORKS_PER_ARTIST)
        small = [thumbnail(run.fetch(path)) for path in paths[::step][:WORKS_PER_ARTIST]]
        works[str(artist)] = [address for address in small if address is not None]
    return works


def thumbnail(path: Path) -> str | None:
    """The image at most `SIDE` pixels large as a JPEG `data:` address, or None."""
    picture = _read(path)
    if picture is None:
        return None
    picture.thumbnail((SIDE, SIDE))
    return jpeg_address(picture)


def jpeg_address(picture: Image.Image) -> str:
    """A small picture as a JPEG `data:` address."""
    content = BytesIO()
    picture.save(content, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def _read(path: Path) -> Image.Image | None:
    try:
        return read_picture(path)
    except CorpusError:
        return None
