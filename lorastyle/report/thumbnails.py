"""Small pictures of the artists' works, as text that a page can hold."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import pandas as pd

from lorastyle.corpus.stage import corpus_root
from lorastyle.errors import CorpusError
from lorastyle.pictures import read_picture
from lorastyle.runs import Run

SIDE = 128
"""Longest side in pixels: sharp at twice the 62 CSS pixels of a tooltip."""
WORKS_PER_ARTIST = 4
QUALITY = 84


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
    try:
        picture = read_picture(path)
    except CorpusError:
        return None
    picture.thumbnail((SIDE, SIDE))
    content = BytesIO()
    picture.save(content, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
