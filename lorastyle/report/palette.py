"""Colours of the report: a hue for each genre, shades of it for the artists.

Colours are made in OKLCH, where equal steps look equal, once for a light and
once for a dark page. Genre hues alternate in lightness as well, because hue
alone is lost to colour-blind readers; the figures also label what they colour.
Source: Ottosson 2020, "A perceptual color space for image processing".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GENRE_HUES: tuple[tuple[float, float], ...] = (
    # (hue in degrees, lightness), found by search: the smallest distance between two of the
    # first six, as red- or green-blind readers see them on either page, is 0.12 in OKLab.
    (252.0, 0.72),
    (84.0, 0.46),
    (72.0, 0.79),
    (288.0, 0.43),
    (12.0, 0.61),
    (168.0, 0.77),
    (288.0, 0.63),
    (204.0, 0.62),
    (60.0, 0.62),
    (348.0, 0.43),
)
CHROMA = 0.135
LIGHTNESS_SPREAD = 0.2
HUE_SPREAD = 30.0
DARKEST, LIGHTEST = 0.36, 0.82
"""Paler marks are lost on paper, darker ones look black."""
DARK_LIFT = 0.35
"""Share of the way from a colour's lightness to `DARK_LIGHTNESS` on dark pages."""
DARK_LIGHTNESS = 0.84

INK = {"light": "#1d1b18", "dark": "#ece7de"}
MUTED = {"light": "#6b655c", "dark": "#a39c90"}
RULE = {"light": "#ddd7cc", "dark": "#3a3732"}
PAPER = {"light": "#fdfcf9", "dark": "#191816"}
ACCENT = {"light": "#b8391f", "dark": "#f07a55"}

SUB_NETWORK_COLOURS = {
    "full": INK,
    "feed_forward": {"light": "#b8391f", "dark": "#f0805c"},
    "self_attention": {"light": "#1f6fb2", "dark": "#6fb4ee"},
    "cross_attention": {"light": "#b3850c", "dark": "#e2b84a"},
}
OTHER_COLOURS = (
    {"light": "#7d2a6b", "dark": "#c57fa6"},
    {"light": "#1b8f6a", "dark": "#97cbb8"},
    {"light": "#7a6ff0", "dark": "#6068dc"},
    {"light": "#3e8fa8", "dark": "#3d7a80"},
)
"""Of sub-networks that are not the paper's. Found by search like the genres' hues: told apart from
those four, and from each other, by red- and green-blind readers too."""


def sub_network_colours(sub_networks: Iterable[str]) -> dict[str, dict[str, str]]:
    """Each sub-network's colour by theme; the paper's four have their own, others repeat."""
    others = [name for name in dict.fromkeys(sub_networks) if name not in SUB_NETWORK_COLOURS]
    return SUB_NETWORK_COLOURS | {
        name: OTHER_COLOURS[place % len(OTHER_COLOURS)] for place, name in enumerate(others)
    }


@dataclass(frozen=True)
class Palette:
    """Colours as `#rrggbb` by theme (`light`, `dark`) and name."""

    artists: Mapping[str, Mapping[str, str]]
    genres: Mapping[str, Mapping[str, str]]

    def artist(self, artist: str, theme: str = "light") -> str:
        return self.artists[theme][artist]

    def genre(self, genre: str, theme: str = "light") -> str:
        return self.genres[theme][genre]


def make_palette(genre_of: Mapping[str, str]) -> Palette:
    """A palette for artists by genre; it depends on the names only, not their order.

    With more genres than `GENRE_HUES` the hues repeat. Without genres (all the
    same one) the artists take the hues themselves.
    """
    genres = sorted(set(genre_of.values()))
    members = {genre: sorted(a for a, g in genre_of.items() if g == genre) for genre in genres}
    artists: dict[str, dict[str, str]] = {}
    by_genre: dict[str, dict[str, str]] = {}
    for theme in ("light", "dark"):
        shades: dict[str, str] = {}
        for place, genre in enumerate(genres):
            names = members[genre]
            for number, artist in enumerate(names):
                key = _alone(number) if len(genres) == 1 else _shade(place, number, len(names))
                shades[artist] = _unused(key, theme, shades.values())
        artists[theme] = shades
        by_genre[theme] = {
            genre: _themed(*_shade(place, 0, 1), theme) for place, genre in enumerate(genres)
        }
    return Palette(artists=artists, genres=by_genre)


def oklch_to_hex(lightness: float, chroma: float, hue: float) -> str:
    """`#rrggbb` nearest to an OKLCH colour; chroma is lowered until it fits sRGB.

    >>> oklch_to_hex(1.0, 0.0, 0.0)
    '#ffffff'
    """
    for attempt in np.linspace(chroma, 0.0, 40):
        rgb = _oklab_to_linear(lightness, attempt, math.radians(hue))
        if rgb.min() >= -1e-4 and rgb.max() <= 1 + 1e-4:
            break
    encoded = np.round(255 * _encode(np.clip(rgb, 0, 1))).astype(int)
    return "#" + "".join(f"{value:02x}" for value in encoded)


def _shade(place: int, number: int, n: int) -> tuple[float, float]:
    """Hue and lightness of the artist `number` of `n` in the genre at `place`."""
    hue, lightness = GENRE_HUES[place % len(GENRE_HUES)]
    position = 0.0 if n == 1 else number / (n - 1) - 0.5
    # Hue and lightness move against each other, so neighbours differ twice.
    turn = 0.0 if n == 1 else (((number * 7) % n) / n - 0.5)
    shaded = lightness + LIGHTNESS_SPREAD * position
    return hue + HUE_SPREAD * turn, float(np.clip(shaded, DARKEST, LIGHTEST))


def _alone(number: int) -> tuple[float, float]:
    hue, lightness = GENRE_HUES[number % len(GENRE_HUES)]
    lap = number // len(GENRE_HUES)
    return hue + 9.0 * lap, lightness - 0.06 * (lap % 3)


def _themed(hue: float, lightness: float, theme: str) -> str:
    if theme == "dark":
        lightness += DARK_LIFT * (DARK_LIGHTNESS - lightness) if lightness < DARK_LIGHTNESS else 0
    return oklch_to_hex(lightness, CHROMA, hue)


def _unused(key: tuple[float, float], theme: str, taken: Iterable[str]) -> str:
    """The colour, nudged until no other artist has it: figures find artists by colour."""
    used = set(taken) | {colour[theme] for colour in (INK, MUTED, RULE, PAPER, ACCENT)}
    hue, lightness = key
    while (colour := _themed(hue, lightness, theme)) in used:
        hue, lightness = hue + 3.0, lightness - 0.004
    return colour


def _oklab_to_linear(lightness: float, chroma: float, radians: float) -> NDArray[np.float64]:
    lab = np.array([lightness, chroma * math.cos(radians), chroma * math.sin(radians)])
    to_lms = np.array(
        [
            [1.0, 0.3963377774, 0.2158037573],
            [1.0, -0.1055613458, -0.0638541728],
            [1.0, -0.0894841775, -1.2914855480],
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    rgb: NDArray[np.float64] = to_rgb @ (to_lms @ lab) ** 3
    return rgb


def _encode(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    low = linear <= 0.0031308
    curved = 1.055 * np.clip(linear, 0.0031308, None) ** (1 / 2.4) - 0.055
    return np.where(low, 12.92 * linear, curved)
