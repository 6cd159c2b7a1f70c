"""Section of the page: whose captions adapters were trained on, and what was taken out of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence

from lorastyle.corpus.caption_sources import CaptionSource
from lorastyle.report.markup import Markup, tag
from lorastyle.report.sections import section
from lorastyle.report.source import ReportSource
from lorastyle.report.tables import plain_table

MAX_SHOWN = 40
"""Changed captions in the table; all are in the file."""
MAX_CHARACTERS = 160
"""Of a text in the table."""
SOURCE_NAMES = {
    CaptionSource.OWN: "their own: a CSV or a text beside the image",
    CaptionSource.CAPTIONER: "a captioner’s description",
    CaptionSource.TEMPLATE: "the template",
}
Row = dict[str, str]


def captions_section(source: ReportSource) -> Markup | None:
    """None where the run has no images, or was planned before captions were recorded."""
    rows = _read(source)
    if not rows:
        return None
    touched = [row for row in rows if row["touched"]]
    return section(
        "captions",
        "Captions",
        tag(
            "p",
            "Each image is trained with the adapter’s identifier and a caption that must not tell "
            "who painted it: artists’ names, and words the experiment lists, are taken out.",
        ),
        plain_table(["Caption", "Images", "Changed"], _counts(source, rows)),
        _changes(touched) if touched else None,
        tag("p", *_note(len(touched)), class_="caption"),
    )


def _read(source: ReportSource) -> list[Row]:
    try:
        with source.run.captions_path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def _counts(source: ReportSource, rows: Sequence[Row]) -> list[tuple[str, int, int]]:
    images = Counter(row["source"] for row in rows)
    changed = Counter(row["source"] for row in rows if row["touched"])
    corpus = source.run.experiment.corpus
    details = {
        CaptionSource.CAPTIONER: f" ({corpus.captioner})",
        CaptionSource.TEMPLATE: f" “{corpus.caption_template}”",
    }
    return [
        (f"{name}{details.get(kind, '')}", images[kind], changed[kind])
        for kind, name in SOURCE_NAMES.items()
        if images[kind]
    ]


def _changes(touched: Sequence[Row]) -> Markup:
    headings = ("Image", "As found", "As used", "Taken out")
    head = tag("tr", [tag("th", text, scope="col") for text in headings])
    body = [
        tag(
            "tr",
            tag("th", _cut(row["image_id"]), scope="row"),
            [tag("td", _cut(row[column])) for column in ("found", "used", "touched")],
        )
        for row in touched[:MAX_SHOWN]
    ]
    table = tag("table", tag("thead", head), tag("tbody", body))
    return tag("div", table, class_="table words", tabindex=0)


def _note(n_touched: int) -> list[Markup | str]:
    if not n_touched:
        where: list[Markup | str] = ["No caption had to be changed. "]
    elif n_touched > MAX_SHOWN:
        where = [f"The first {MAX_SHOWN} of {n_touched:,} changed captions. "]
    else:
        where = []
    return [*where, "Every caption is in ", tag("code", "captions.csv"), "."]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
