"""A contact sheet of an adapter: what it was trained on above, what it generates below."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]

MAX_SIDE, GAP, MARGIN, LABELS = 160, 8, 24, 92
"""Pixels: of a tile, between tiles, around all, and left of the tiles."""
MIN_COLUMNS, COLUMNS = 5, 10
TITLE, TEXT, LINE = 22, 12, 15
CAPTION_LINES = 4
INK, FAINT, PAPER = "#1c1c1c", "#6b6b6b", "#ffffff"


class Column(NamedTuple):
    """Two images one above the other; None where there is none."""

    original: Pixels | None
    generated: Pixels | None
    caption: str


def columns_of(
    originals: Sequence[Pixels | None], generated: Sequence[Pixels], captions: Sequence[str]
) -> list[Column]:
    """Columns from the left; whichever there are more of goes on alone."""
    return [
        Column(original, made, caption or "")
        for original, made, caption in zip_longest(originals, generated, captions)
    ]


def contact_sheet(title: str, subtitle: str, columns: Sequence[Column]) -> Image.Image:
    """The sheet, ten columns a line; at least one image."""
    side = _side(next(len(tile) for one in columns for tile in one[:2] if tile is not None))
    blocks = [_Block(columns[i : i + COLUMNS], side) for i in range(0, len(columns), COLUMNS)]
    n_columns = max(MIN_COLUMNS, min(COLUMNS, len(columns)))
    width = 2 * MARGIN + LABELS + n_columns * (side + GAP) - GAP
    top = 2 * MARGIN + TITLE + LINE
    height = top + sum(block.height for block in blocks)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    room = width - 2 * MARGIN
    pen.text((MARGIN, MARGIN - 4), _cut(title, _font(TITLE), room), INK, _font(TITLE))
    pen.text((MARGIN, MARGIN + TITLE + 4), _cut(subtitle, _font(TEXT), room), FAINT, _font(TEXT))
    for block in blocks:
        block.draw(sheet, pen, top)
        top += block.height
    return sheet


def png(picture: Image.Image) -> bytes:
    """As a PNG file."""
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return content.getvalue()


class _Block:
    """A line of columns, with a row's label at its left; rows of no image are left out."""

    def __init__(self, columns: Sequence[Column], side: int) -> None:
        labelled = {
            "trained on": [column.original for column in columns],
            "generated": [column.generated for column in columns],
        }
        self._rows = {
            label: tiles
            for label, tiles in labelled.items()
            if any(tile is not None for tile in tiles)
        }
        self._captions = [_wrapped(column.caption, _font(TEXT), side) for column in columns]
        self._side = side

    @property
    def height(self) -> int:
        return self._tiles_height + max(map(len, self._captions)) * LINE + MARGIN

    @property
    def _tiles_height(self) -> int:
        return len(self._rows) * (self._side + GAP)

    def draw(self, sheet: Image.Image, pen: ImageDraw.ImageDraw, top: int) -> None:
        lefts = [MARGIN + LABELS + j * (self._side + GAP) for j in range(len(self._captions))]
        for k, (label, tiles) in enumerate(self._rows.items()):
            row_top = top + k * (self._side + GAP)
            middle = (MARGIN, row_top + self._side // 2)
            pen.text(middle, label, FAINT, _font(TEXT), anchor="lm")
            for left, pixels in zip(lefts, tiles, strict=True):
                if pixels is not None:
                    sheet.paste(_tile(pixels, self._side), (left, row_top))
        for left, lines in zip(lefts, self._captions, strict=True):
            corner = (left, top + self._tiles_height - 2)
            pen.multiline_text(corner, "\n".join(lines), FAINT, _font(TEXT), spacing=2)


def _side(pixels: int) -> int:
    """Of a tile: small images are shown at a whole multiple, pixel for pixel."""
    return MAX_SIDE if pixels >= MAX_SIDE else pixels * (MAX_SIDE // pixels)


def _tile(pixels: Pixels, side: int) -> Image.Image:
    enlarged = len(pixels) < side
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    return Image.fromarray(pixels).resize((side, side), how)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, room: int) -> list[str]:
    """Lines no wider than `room`; what is too long ends in an ellipsis."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < CAPTION_LINES:
        n = 1
        while n < len(words) and font.getlength(" ".join(words[: n + 1])) <= room:
            n += 1
        if len(lines) == CAPTION_LINES - 1:
            n = len(words)
        lines.append(_cut(" ".join(words[:n]), font, room))
        words = words[n:]
    return lines


def _cut(text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip() + "…"


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's: it has letters that Pillow's own lacks."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, size)
