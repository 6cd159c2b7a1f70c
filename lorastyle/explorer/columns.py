"""What adapters can be coloured and filtered by, with a colour for each value on either theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lorastyle.records import INGESTED, Role
from lorastyle.report.palette import (
    CHROMA,
    DARK_LIFT,
    DARK_LIGHTNESS,
    GENRE_HUES,
    MUTED,
    make_palette,
    oklch_to_hex,
)
from lorastyle.report.shown import NO_LABEL
from lorastyle.report.style_map import OUTLINES
from lorastyle.report.words import KIND_NAMES, plain

MOST_SHADES = 150
"""Artists that get a colour of their own; more could not be told apart, so that colours repeat."""
TITLES: Mapping[str, str] = {
    "artist": "Artist",
    "genre": "Genre",
    "role": "Kind",
    "rank": "Rank",
    "source": "Source",
}
Colours = Mapping[str, tuple[str, str]]
"""By value, `#rrggbb` on the light and on the dark page."""


@dataclass(frozen=True)
class Mark:
    """How adapters of a role are drawn: Plotly's symbols in 2D and 3D, which has fewer.

    The legend draws their outlines, empty where a symbol's name ends in `-open`.
    """

    flat: str
    solid: str
    outline: str
    solid_outline: str
    scale: float = 1.0


_CIRCLE, _SQUARE, _DIAMOND = OUTLINES["circle"], OUTLINES["square"], OUTLINES["diamond"]
_CROSS, _TURNED = OUTLINES["cross"], OUTLINES["turned"]
_SPARK = "M0,-7L2,-2L7,0L2,2L0,7L-2,2L-7,0L-2,-2Z"
MARKS: Mapping[str, Mark] = {
    Role.TRAIN.value: Mark("circle", "circle", _CIRCLE, _CIRCLE),
    Role.VAL.value: Mark("square", "square", _SQUARE, _SQUARE),
    Role.TEST.value: Mark("triangle-up", "diamond", OUTLINES["triangle"], _DIAMOND, 1.15),
    Role.QUERY_CALIBRATION.value: Mark("cross", "square-open", _CROSS, _SQUARE),
    Role.QUERY_VAL.value: Mark("triangle-down", "circle-open", _TURNED, _CIRCLE, 1.15),
    Role.QUERY_TEST.value: Mark("diamond", "diamond-open", _DIAMOND, _DIAMOND, 1.1),
    INGESTED: Mark("star-diamond", "cross", _SPARK, _CROSS, 1.6),
}
FROM_ELSEWHERE = "from elsewhere"


def columns_of(adapters: pd.DataFrame) -> list[dict[str, Any]]:
    """Each column's values in the order of its legend, as the page's script reads them."""
    genre_of = dict(zip(adapters["artist"], adapters["genre"], strict=True))
    artists = sorted(genre_of, key=lambda artist: (genre_of[artist], artist))
    genres, ranks = sorted(set(adapters["genre"])), sorted(set(adapters["rank"]), key=_by_number)
    sources = sorted(set(adapters["source"]))
    roles = [role for role in MARKS if (adapters["role"] == role).any()]
    values: dict[str, tuple[Sequence[str], Colours]] = {
        "artist": (artists, _artist_colours(genre_of)),
        "genre": (genres, _genre_colours(genres)),
        "role": (roles, _apart(roles)),
        "rank": (ranks, _apart(ranks)),
        "source": (sources, _apart(sources)),
    }
    return [
        {
            "key": key,
            "name": TITLES[key],
            "values": [_value(key, value, colours[value]) for value in listed],
        }
        for key, (listed, colours) in values.items()
    ]


def codes_of(adapters: pd.DataFrame, columns: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Every adapter's value in each column, as the value's place in it."""
    return {
        column["key"]: pd.Index([value["value"] for value in column["values"]])
        .get_indexer(pd.Index(adapters[column["key"]]))
        .tolist()
        for column in columns
    }


def _value(key: str, value: str, colour: tuple[str, str]) -> dict[str, Any]:
    if key != "role":
        name = plain(value) if key in ("artist", "genre") else value
        unlabelled = {"unlabelled": True} if value == NO_LABEL else {}
        return {"value": value, "name": name, "colour": colour, **unlabelled}
    mark = MARKS[value]
    return {
        "value": value,
        "name": KIND_NAMES.get(value, FROM_ELSEWHERE),
        "colour": colour,
        "symbol": (mark.flat, mark.solid),
        "outline": (mark.outline, mark.solid_outline),
        "scale": mark.scale,
        # Queries are there to measure the run.
        "hidden": value.startswith("query"),
    }


def _by_number(rank: str) -> tuple[int, str]:
    digits = "".join(character for character in rank if character.isdigit())
    return (int(digits or 0), rank)


def _artist_colours(genre_of: Mapping[str, str]) -> Colours:
    named = {artist: genre for artist, genre in genre_of.items() if artist != NO_LABEL}
    if len(named) > MOST_SHADES:
        return {**_apart(sorted(named)), **_NOBODY}
    palette = make_palette(named) if named else None
    shades = {
        artist: (palette.artist(artist), palette.artist(artist, "dark"))
        for artist in named
        if palette is not None
    }
    return {**shades, **_NOBODY}


def _genre_colours(genres: Sequence[str]) -> Colours:
    palette = make_palette({genre: genre for genre in genres})
    colours = {genre: (palette.genre(genre), palette.genre(genre, "dark")) for genre in genres}
    return {**colours, **_NOBODY}


_NOBODY: Colours = {NO_LABEL: (MUTED["light"], MUTED["dark"])}


def _apart(values: Sequence[str]) -> Colours:
    """The genres' hues in turn; each later round is a little darker or lighter."""
    return {value: _turn(number) for number, value in enumerate(values)}


def _turn(number: int) -> tuple[str, str]:
    lap, place = divmod(number, len(GENRE_HUES))
    hue, lightness = GENRE_HUES[place]
    hue, lightness = hue + 11.0 * lap, lightness - 0.05 * (lap % 3)
    lifted = lightness + DARK_LIFT * max(0.0, DARK_LIGHTNESS - lightness)
    return oklch_to_hex(lightness, CHROMA, hue), oklch_to_hex(lifted, CHROMA, hue)
