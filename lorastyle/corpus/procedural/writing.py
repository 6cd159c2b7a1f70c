"""A corpus on disk: a folder of paintings by artist, with the index a user would bring."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from lorastyle.corpus.procedural.artists import make_schools
from lorastyle.corpus.procedural.handling import paint
from lorastyle.corpus.procedural.scenes import sample_scene
from lorastyle.errors import CorpusError
from lorastyle.runs import write_atomically

INDEX_COLUMNS = ("file", "artist", "genre", "caption")


def write_corpus(
    directory: Path, n_artists: int, works_per_artist: int, size: int, seed: int
) -> Path:
    """Write ``ARTIST/000.png`` ... and, last, ``index.csv`` (file, artist, genre, caption).

    Painting ``w`` of artist ``a`` depends on (seed, a, w) alone, so a larger corpus contains the
    smaller. An index that already says the same, with its files there, makes this a no-op.
    Returns the path of the index. Raises CorpusError if the directory holds another corpus.
    """
    directory = Path(directory)
    index = directory / "index.csv"
    artists = make_schools(n_artists, seed)
    plan = [(a, w, artist) for a, artist in enumerate(artists) for w in range(works_per_artist)]
    rows = []
    for a, w, artist in plan:
        scene = sample_scene(np.random.default_rng([seed, a, w, 3]))
        rows.append((f"{artist.name}/{w:03d}.png", artist.name, artist.genre, scene.caption))
    text = _as_csv(rows)
    if index.is_file():
        if index.read_text(encoding="utf-8") == text and _sizes_match(directory, rows, size):
            return index
        raise CorpusError(
            f"'{directory}' holds another corpus: its index.csv or images differ from "
            f"{n_artists} artists x {works_per_artist} works of {size} pixels, seed {seed}. "
            "Choose an empty directory."
        )
    for artist in artists:
        (directory / artist.name).mkdir(parents=True, exist_ok=True)
    for (a, w, artist), row in zip(plan, rows, strict=True):
        rng = np.random.default_rng([seed, a, w, 3])
        image = paint(artist, sample_scene(rng), rng, size)
        Image.fromarray(image).save(directory / row[0])
    write_atomically(index, text)
    return index


def _as_csv(rows: list[tuple[str, str, str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(INDEX_COLUMNS)
    writer.writerows(rows)
    return buffer.getvalue()


def _sizes_match(directory: Path, rows: list[tuple[str, str, str, str]], size: int) -> bool:
    """Whether every file is there and the first has the size (opening all would be slow)."""
    if not all((directory / row[0]).is_file() for row in rows):
        return False
    with Image.open(directory / rows[0][0]) as first:
        return first.size == (size, size)
