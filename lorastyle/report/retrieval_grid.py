"""Queries and what they find, as pictures: supplementary figure 2 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from lorastyle.report.canvas import new_figure
from lorastyle.report.markup import Markup, tag
from lorastyle.report.palette import ACCENT, INK, MUTED, OTHER_COLOURS, RULE
from lorastyle.report.retrieval_examples import N_HITS, Example
from lorastyle.report.thumbnails import TrainingPictures, jpeg_address
from lorastyle.report.words import percent, plain

N_QUERY_IMAGES = 3
WIDTHS = (1.25, *[1.0] * N_QUERY_IMAGES, 0.28, *[1.0] * N_HITS)
"""Of a row's places: the name, the query's images, an arrow, and what was found."""
RIGHT, WRONG = OTHER_COLOURS[1]["light"], ACCENT["light"]
MARKS = {True: "✓", False: "✗"}
MAX_LETTERS = 17
"""Of a name over a picture: longer ones would run into the next."""
Picture = Image.Image | None
"""None where there is none, or it cannot be read."""


@dataclass(frozen=True)
class PicturedExample:
    """A query with its training images, and an image of each adapter that it found."""

    example: Example
    query: tuple[Picture, ...]
    hits: tuple[Picture, ...]


def pictured(examples: Sequence[Example], pictures: TrainingPictures) -> list[PicturedExample]:
    """The first images of every adapter; no image twice in a row, as far as there are others."""
    found = []
    for example in examples:
        asked = pictures.images_of(example.adapter_id)[:N_QUERY_IMAGES]
        shown = set(asked)
        hits: list[Picture] = []
        for hit in example.hits:
            images = pictures.images_of(hit.adapter_id)
            fresh = next((one for one in images if one not in shown), next(iter(images), None))
            hits.append(None if fresh is None else pictures.square(fresh))
            shown.add(fresh or "")
        query = tuple(pictures.square(one) for one in asked)
        found.append(PicturedExample(example, query, tuple(hits)))
    return found


def retrieval_grid(rows: Sequence[PicturedExample]) -> Any:
    """A row a query: its images, then what it found, framed by whether that is right.

    Frames of right ones are green and whole, of wrong ones red and broken, and names are marked.
    """
    figure, axes = new_figure(8.4, 1.32 * len(rows) + 0.1, len(rows), len(WIDTHS))
    axes[0, 0].get_gridspec().set_width_ratios(WIDTHS)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.03, wspace=0.0, hspace=0.0)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    for line, row in zip(axes, rows, strict=True):
        example = row.example
        _write(line[0], plain(example.artist), _standing(example))
        for ax, picture in zip(line[1:], row.query, strict=False):
            _show(ax, picture)
        _write(line[1 + N_QUERY_IMAGES], "", "→")
        hits = zip(line[2 + N_QUERY_IMAGES :], row.hits, example.hits, strict=False)
        for ax, picture, hit in hits:
            _show(ax, picture)
            colour = RIGHT if hit.right else WRONG
            _frame(ax, colour, "-" if hit.right else (0, (4, 2)))
            ax.set_title(
                f"{MARKS[hit.right]} {_short(plain(hit.artist))}",
                color=colour,
                fontsize=7.2,
                fontweight="normal",
                pad=4,
            )
    return figure


def examples_part(rows: Sequence[PicturedExample]) -> Markup | None:
    """The same for the page; None where there is no row."""
    if not rows:
        return None
    return tag(
        "div",
        tag("h3", "What queries find"),
        tag("div", [_row(row) for row in rows], class_="examples"),
        tag(
            "p",
            f"Test queries with the best, median and worst average precision (AP), one an artist, "
            f"and the {N_HITS} nearest gallery adapters of each. Adapters are shown by images that "
            "they were trained on; only weights were compared. ✓ and a whole frame: by the query's "
            "artist; ✗ and a broken one: by another.",
            class_="caption",
        ),
    )


def _row(row: PicturedExample) -> Markup:
    example = row.example
    hits = [
        tag(
            "figure",
            _image(picture),
            tag("figcaption", f"{MARKS[hit.right]} {plain(hit.artist)}"),
            class_="right" if hit.right else "wrong",
        )
        for picture, hit in zip(row.hits, example.hits, strict=True)
    ]
    who = tag("p", tag("b", plain(example.artist)), tag("span", _standing(example)), class_="asked")
    images = [tag("figure", _image(picture)) for picture in row.query]
    return tag("div", who, tag("div", images), tag("div", hits), class_="example")


def _image(picture: Picture) -> Markup:
    if picture is None:
        return tag("i", class_="no-picture")
    return tag("img", src=jpeg_address(picture), alt="", loading="lazy", width=128, height=128)


def _standing(example: Example) -> str:
    return f"{example.standing}: AP {percent(example.average_precision)} %"


def _write(ax: Any, name: str, note: str) -> None:
    """A name above a note, at the right of an otherwise empty place."""
    where: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "center"}
    ax.text(0.95, 0.6, _wrapped(name), color=INK["light"], fontweight="bold", **where)
    ax.text(0.95, 0.36 if name else 0.5, note, color=MUTED["light"], fontsize=8.0, **where)


def _show(ax: Any, picture: Picture) -> None:
    if picture is None:
        ax.set_facecolor(RULE["light"])
        ax.set_box_aspect(1)
    else:
        ax.imshow(np.asarray(picture), interpolation="lanczos")


def _frame(ax: Any, colour: str, style: Any) -> None:
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.4, linestyle=style)


def _wrapped(name: str) -> str:
    """On two lines where it is of several words and long."""
    words = name.split()
    if len(name) <= 14 or len(words) < 2:
        return _short(name)
    half = (len(words) + 1) // 2
    return "\n".join(_short(" ".join(part)) for part in (words[:half], words[half:]))


def _short(name: str) -> str:
    return name if len(name) <= MAX_LETTERS else name[: MAX_LETTERS - 1].rstrip() + "…"
