"""Sheets of what adapters were trained on and what they generate: supplementary figure 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorastyle.errors import LorastyleError
from lorastyle.generation.kept import GeneratedImages
from lorastyle.generation.sheet import COLUMNS, Pixels, columns_of, contact_sheet, png
from lorastyle.generation.subjects import Subject, read_subjects
from lorastyle.records import Role
from lorastyle.report.panels import spread_artists
from lorastyle.report.shown import NO_LABEL
from lorastyle.report.source import ReportSource
from lorastyle.report.thumbnails import square
from lorastyle.report.words import plain
from lorastyle.report.written_files import SHEETS, WrittenFiles
from lorastyle.runs import write_atomically
from lorastyle.runs.file_names import safe_name

MAX_SHEETS = 12


def write_sheets(source: ReportSource, files: WrittenFiles) -> dict[str, str]:
    """A PNG for one train adapter of each of at most 12 artists; file names by artist.

    The first ten images of each, with captions, and below them those that the adapter generated
    where the run has them. None where adapters have no images, or are not at hand.
    """
    rows = sheet_rows(source)
    try:
        subjects = read_subjects(source.run, rows)
    except LorastyleError:
        return {}
    written = {}
    for subject in subjects:
        originals = [square(source.run, image.path) for image in subject.images[:COLUMNS]]
        if not any(originals):
            continue
        name = f"{safe_name(subject.adapter_id)}.png"
        tiles = [None if one is None else np.asarray(one) for one in originals]
        made = generated(source, subject)[:COLUMNS]
        columns = columns_of(tiles, made, captions(subject)[:COLUMNS])
        sheet = contact_sheet(*titles(subject, len(made)), columns)
        write_atomically(files.place(SHEETS, name), png(sheet))
        written[subject.artist] = name
    return written


def sheet_rows(source: ReportSource) -> list[int]:
    """Rows in the store: the first embedded train adapter of each artist that is shown."""
    if not source.run.is_planned or source.plan.empty:
        return []
    table = source.plan[source.plan["role"] == Role.TRAIN.value].sort_values("row")
    space = source.spaces.get(source.shown_space or "")
    if space is not None:
        table = table[table["adapter_id"].isin(space.adapters["adapter_id"])]
    first = table[table["artist"] != NO_LABEL].drop_duplicates("artist")
    artists, genres = (first[name].to_numpy(dtype=str) for name in ("artist", "genre"))
    shown = spread_artists(artists, genres, MAX_SHEETS)
    return [int(row) for row in first.loc[first["artist"].isin(shown), "row"]]


def generated(source: ReportSource, subject: Subject) -> Sequence[Pixels]:
    """The images that the adapter made of its captions, in their order; none if none was kept."""
    kept = GeneratedImages.of(source.run)
    if kept.missing([subject.row]):
        return []
    (images,) = kept.read([subject.row])
    return list(images)


def captions(subject: Subject) -> list[str]:
    """Without the identifier, which the title has."""
    return [text.removeprefix(f"{subject.token} ") for text in subject.captions]


def titles(subject: Subject, n_made: int) -> tuple[str, str]:
    """Heading, and a line below it."""
    n_images = len(subject.images)
    shown = f"{n_images} images" if n_images <= COLUMNS else f"{COLUMNS} of {n_images} images"
    below = "below each, what the adapter generates of its caption" if n_made else ""
    token = f"identifier {subject.token}" if subject.token else "no identifier"
    return plain(subject.artist), " · ".join(
        part for part in (subject.adapter_id, token, shown, below) if part
    )
