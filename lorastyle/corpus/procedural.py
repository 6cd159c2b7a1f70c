"""A procedural world of painters: deterministic paintings by artists who never lived.

A *scene* says what is painted (and is all that a caption tells); an *artist* says how. The artist's
identity sits mostly in handling (strokes, their flow, outline, surface, composition) and only
partly in colour, while light and subject move colour strongly within one artist. Averages of
pixels and colour histograms therefore find artists only in part, as they do for real painters.

Everything is NumPy; Pillow only writes the files. A painting of 64 x 64 takes a few milliseconds.
"""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorastyle.errors import CorpusError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

BASE_SEED = 0
"""Seed of the artists that the miniature base model was trained on; evaluation uses others."""

MAX_SEED = 2**24
MAX_ARTISTS = 1024
GENRES = ("plein_air", "expressive", "pointillist", "woodblock", "tonalist")
FIELDS = ("straight", "swirl", "contour", "radial")
SURFACES = ("none", "weave", "hatch", "ridges")

SUPERSAMPLE = 2  # Paint at twice the size and average: the only anti-aliasing there is.


@dataclass(frozen=True)
class Artist:
    """One invented painter: a name and the numbers of a hand.

    Lengths are in pixels of a 64-pixel painting, angles in radians, the rest shares of one.
    ``master`` names the artist whose style an apprentice mostly keeps, or is None.
    """

    name: str
    genre: str
    master: str | None
    palette: tuple[tuple[float, float, float], ...]
    palette_pull: float
    saturation: float
    warmth: float
    contrast: float
    stroke_length: float
    stroke_width: float
    stroke_bend: float
    field: str
    field_angle: float
    field_scale: float
    coverage: float
    colour_jitter: float
    bristle: float
    edge_fidelity: float
    outline: float
    outline_width: float
    levels: int
    surface: str
    surface_strength: float
    surface_period: float
    horizon: float
    zoom: float


# --------------------------------------------------------------------------- artists

# Ranges of each number, by genre. Palettes' own hues are drawn from the genre's few anchors, so
# artists of one genre share colours and differ in handling.
_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "plein_air": {
        "palette_pull": (0.10, 0.25),
        "saturation": (0.85, 1.1),
        "warmth": (-0.03, 0.05),
        "contrast": (0.85, 1.15),
        "stroke_length": (3.0, 9.0),
        "stroke_width": (1.2, 3.0),
        "stroke_bend": (0.0, 0.4),
        "coverage": (1.6, 3.0),
        "colour_jitter": (0.05, 0.16),
        "bristle": (0.02, 0.14),
        "edge_fidelity": (0.4, 0.9),
        "outline": (0.0, 0.25),
        "outline_width": (0.8, 1.2),
        "surface_strength": (0.0, 0.10),
    },
    "expressive": {
        "palette_pull": (0.15, 0.35),
        "saturation": (1.05, 1.4),
        "warmth": (-0.04, 0.06),
        "contrast": (1.05, 1.4),
        "stroke_length": (8.0, 18.0),
        "stroke_width": (1.6, 3.6),
        "stroke_bend": (0.3, 1.2),
        "coverage": (2.2, 3.2),
        "colour_jitter": (0.06, 0.18),
        "bristle": (0.08, 0.24),
        "edge_fidelity": (0.7, 1.0),
        "outline": (0.35, 0.9),
        "outline_width": (1.0, 2.2),
        "surface_strength": (0.0, 0.06),
    },
    "pointillist": {
        "palette_pull": (0.15, 0.35),
        "saturation": (0.95, 1.3),
        "warmth": (-0.03, 0.05),
        "contrast": (0.85, 1.15),
        "stroke_length": (2.2, 4.4),
        "stroke_width": (2.0, 4.0),
        "stroke_bend": (0.0, 0.0),
        "coverage": (0.7, 1.6),
        "colour_jitter": (0.08, 0.22),
        "bristle": (0.0, 0.05),
        "edge_fidelity": (0.3, 0.8),
        "outline": (0.0, 0.2),
        "outline_width": (0.8, 1.2),
        "surface_strength": (0.0, 0.08),
    },
    "woodblock": {
        "palette_pull": (0.30, 0.50),
        "saturation": (0.75, 1.1),
        "warmth": (0.0, 0.07),
        "contrast": (0.95, 1.3),
        "stroke_length": (8.0, 16.0),
        "stroke_width": (3.0, 6.0),
        "stroke_bend": (0.0, 0.2),
        "coverage": (1.0, 2.0),
        "colour_jitter": (0.0, 0.03),
        "bristle": (0.0, 0.05),
        "edge_fidelity": (0.95, 1.0),
        "outline": (0.6, 1.0),
        "outline_width": (0.9, 2.2),
        "surface_strength": (0.06, 0.28),
    },
    "tonalist": {
        "palette_pull": (0.25, 0.45),
        "saturation": (0.45, 0.8),
        "warmth": (-0.02, 0.07),
        "contrast": (0.7, 1.0),
        "stroke_length": (5.0, 14.0),
        "stroke_width": (2.4, 5.5),
        "stroke_bend": (0.0, 0.6),
        "coverage": (1.6, 2.8),
        "colour_jitter": (0.01, 0.05),
        "bristle": (0.0, 0.10),
        "edge_fidelity": (0.1, 0.6),
        "outline": (0.0, 0.1),
        "outline_width": (0.8, 1.2),
        "surface_strength": (0.08, 0.30),
    },
}
_SHARED_RANGES: dict[str, tuple[float, float]] = {
    "field_angle": (0.0, math.pi), "field_scale": (0.8, 2.6), "surface_period": (2.6, 5.5),
    "horizon": (0.42, 0.68), "zoom": (0.78, 1.22),
}  # fmt: skip
_ANCHORS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "plein_air": ((0.93, 0.88, 0.72), (0.45, 0.62, 0.80), (0.55, 0.66, 0.36), (0.80, 0.52, 0.42),
                  (0.30, 0.34, 0.52)),
    "expressive": ((0.95, 0.78, 0.25), (0.80, 0.25, 0.20), (0.15, 0.30, 0.60), (0.20, 0.50, 0.35),
                   (0.12, 0.10, 0.18)),
    "pointillist": ((0.96, 0.90, 0.66), (0.35, 0.55, 0.82), (0.90, 0.50, 0.25), (0.50, 0.70, 0.35),
                    (0.45, 0.30, 0.60)),
    "woodblock": ((0.93, 0.86, 0.70), (0.22, 0.36, 0.52), (0.76, 0.34, 0.26), (0.48, 0.56, 0.40),
                  (0.16, 0.16, 0.20)),
    "tonalist": ((0.80, 0.74, 0.60), (0.45, 0.46, 0.48), (0.58, 0.45, 0.32), (0.38, 0.42, 0.34),
                 (0.18, 0.17, 0.19)),
}  # fmt: skip


def make_artists(n_artists: int, seed: int) -> tuple[Artist, ...]:
    """Invent artists; artist ``i`` of a seed does not depend on how many are asked for.

    Genres alternate. From the eleventh on, every fourth is an apprentice of an earlier artist of
    its genre. Different seeds share no name (names encode seed and number, one to one) and no
    style (styles are continuous draws).

    Raises CorpusError for a count outside [1, 1024] or a seed outside [0, 2**24).
    """
    if not 1 <= n_artists <= MAX_ARTISTS:
        raise CorpusError(f"n_artists must be in [1, {MAX_ARTISTS}], got {n_artists}")
    if not 0 <= seed < MAX_SEED:
        raise CorpusError(f"an artists' seed must be in [0, {MAX_SEED}), got {seed}")
    artists: list[Artist] = []
    for number in range(n_artists):
        own = _invent(seed, number)
        rng = np.random.default_rng([seed, number, 1])
        masters = [a for a in artists if a.genre == own.genre and a.master is None]
        if number >= 10 and number % 4 == 2 and masters:
            own = _apprentice(own, masters[int(rng.integers(len(masters)))], rng)
        artists.append(own)
    return tuple(artists)


def _invent(seed: int, number: int) -> Artist:
    rng = np.random.default_rng([seed, number])
    # A rotation by the seed, so that a few artists of two seeds are not the same few genres.
    place = (number + seed) % len(GENRES)
    genre, rank_in_genre = GENRES[place], number // len(GENRES)
    drawn: dict[str, Any] = {}
    ranges = {**_RANGES[genre], **_SHARED_RANGES}
    starts = np.random.default_rng([seed, place, 2]).random(len(ranges))
    for k, (name, (low, high)) in enumerate(ranges.items()):
        # Kronecker sequences (square roots of primes) spread a genre's artists over each range;
        # independent draws would leave some of them near twins, beyond the intended apprentices.
        position = (starts[k] + rank_in_genre * math.sqrt(_PRIMES[k])) % 1.0
        drawn[name] = low + (high - low) * float(position)
    hue = rng.normal(0.0, 0.05, (5, 3))
    palette = np.clip(np.asarray(_ANCHORS[genre]) + hue, 0.02, 0.98)
    return Artist(
        name=_name(seed, number),
        genre=genre,
        master=None,
        palette=tuple((float(r), float(g), float(b)) for r, g, b in palette),
        field=FIELDS[int(rng.integers(len(FIELDS)))],
        levels=int(rng.integers(3, 6)) if genre == "woodblock" else 0,
        surface=SURFACES[int(rng.integers(1, len(SURFACES)))],
        **drawn,
    )


_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)
_APPRENTICE_KEEPS = frozenset({"name", "genre", "master", "palette", "field", "levels", "surface"})


def _apprentice(own: Artist, master: Artist, rng: np.random.Generator) -> Artist:
    """The master's hand, moved by a quarter of the way towards the pupil's own inclinations."""
    share = 0.25
    moved = {
        f.name: (1 - share) * getattr(master, f.name) + share * getattr(own, f.name)
        for f in fields(Artist)
        if f.name not in _APPRENTICE_KEEPS
    }
    # Angles are modulo pi; a blend across the seam would turn the hand by a right angle.
    moved["field_angle"] = (master.field_angle + float(rng.normal(0.0, 0.15))) % math.pi
    return replace(master, name=own.name, master=master.name, **moved)


_CONSONANTS = "bdfgklmnprstvzhj"
_VOWELS = "aeio"


def _name(seed: int, number: int) -> str:
    """Six two-letter syllables: a base-64 numeral, hence one name for each (seed, number)."""
    # An odd multiplier permutes 36-bit integers: neighbours get unlike names, none collides.
    code = ((seed * MAX_ARTISTS + number) * 0x9E3779B1D + 0x2545F4914) % 2**36
    syllables = []
    for _ in range(6):
        code, digit = divmod(code, 64)
        syllables.append(_CONSONANTS[digit // 4] + _VOWELS[digit % 4])
    return "".join(syllables[:3]) + "_" + "".join(syllables[3:])


# --------------------------------------------------------------------------- scenes

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.18, 0.15),
    "blue": (0.18, 0.32, 0.72),
    "yellow": (0.93, 0.78, 0.20),
    "white": (0.94, 0.93, 0.90),
    "green": (0.22, 0.52, 0.26),
    "violet": (0.50, 0.28, 0.62),
}
LIGHTS = ("dawn", "noon", "dusk", "night", "fog")
PLACES: dict[str, tuple[str, ...]] = {
    "boat": ("lake", "sea"),
    "house": ("field", "snow", "sand"),
    "tree": ("field", "snow", "sand"),
    "mountain": ("lake", "field", "snow"),
    "tower": ("sea", "snow", "sand"),
    "flowers": ("table",),
    "fruit": ("table",),
    "woman": ("room",),
    "man": ("room",),
}
_PLACE_WORDS = {
    "lake": "on a calm lake",
    "sea": "on a rough sea",
    "field": "in a green field",
    "snow": "in the snow",
    "sand": "on the sand",
}
_BY_WORDS = {"lake": "by a calm lake", "sea": "by a rough sea"}


@dataclass(frozen=True)
class Scene:
    """What is painted: a subject, its colour and number, a place and a light."""

    subject: str
    colour: str
    count: int
    place: str
    light: str

    @property
    def caption(self) -> str:
        """One English phrase; its words are the attributes, and none speaks of style."""
        light = "in fog" if self.light == "fog" else f"at {self.light}"
        if self.subject == "flowers":
            return f"{self.colour} flowers in a vase on a table {light}"
        if self.subject == "fruit":
            return f"{self.colour} fruit in a bowl on a table {light}"
        if self.subject == "woman":
            return f"a woman in a {self.colour} hat {light}"
        if self.subject == "man":
            return f"a man in a {self.colour} coat {light}"
        floats = self.subject == "boat"
        place = _PLACE_WORDS[self.place] if floats else {**_PLACE_WORDS, **_BY_WORDS}[self.place]
        head = f"a {self.colour} {self.subject}"
        if self.count == 2:
            head = f"two {self.colour} {self.subject}s"
        return f"{head} {place} {light}"


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene: subject, colour, place and light uniform, sometimes two of a kind."""
    subjects = tuple(PLACES)
    subject = subjects[int(rng.integers(len(subjects)))]
    places = PLACES[subject]
    colours = tuple(COLOURS)
    pair = subject in ("boat", "house", "tree") and rng.random() < 0.3
    return Scene(
        subject=subject,
        colour=colours[int(rng.integers(len(colours)))],
        count=2 if pair else 1,
        place=places[int(rng.integers(len(places)))],
        light=LIGHTS[int(rng.integers(len(LIGHTS)))],
    )


def caption_words() -> tuple[str, ...]:
    """Every word that a caption can contain, sorted: the miniature's tokenizer is built of them."""
    scenes = (
        Scene(subject, colour, count, place, light)
        for subject, places in PLACES.items()
        for colour in COLOURS
        for count in ((1, 2) if subject in ("boat", "house", "tree") else (1,))
        for place in places
        for light in LIGHTS
    )
    return tuple(sorted({word for scene in scenes for word in scene.caption.split()}))


# --------------------------------------------------------------------------- composition


@dataclass(frozen=True)
class _Light:
    sky_top: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    ambient: tuple[float, float, float]
    haze: float


_LIGHTS = {
    "dawn": _Light((0.52, 0.63, 0.86), (0.99, 0.78, 0.68), (1.00, 0.86, 0.82), 0.15),
    "noon": _Light((0.32, 0.58, 0.93), (0.76, 0.89, 0.98), (1.00, 1.00, 1.00), 0.00),
    "dusk": _Light((0.34, 0.22, 0.48), (0.97, 0.50, 0.22), (0.80, 0.55, 0.52), 0.05),
    "night": _Light((0.04, 0.06, 0.20), (0.14, 0.20, 0.40), (0.34, 0.40, 0.62), 0.05),
    "fog": _Light((0.74, 0.76, 0.78), (0.88, 0.88, 0.87), (0.92, 0.93, 0.95), 0.50),
}
_GROUNDS = {
    "field": (0.40, 0.60, 0.24),
    "snow": (0.93, 0.95, 0.99),
    "sand": (0.88, 0.75, 0.50),
    "lake": (0.42, 0.60, 0.72),
    "sea": (0.16, 0.38, 0.50),
    "table": (0.55, 0.36, 0.22),
    "room": (0.60, 0.52, 0.46),
}


class _Sheet:
    """A flat drawing in progress: colours (n, n, 3) and region labels (n, n)."""

    def __init__(self, n: int) -> None:
        axis = (np.arange(n, dtype=np.float32) + 0.5) / n
        self.x = np.broadcast_to(axis[None, :], (n, n))
        self.y = np.broadcast_to(axis[:, None], (n, n))
        self.colours = np.zeros((n, n, 3), np.float32)
        self.labels = np.zeros((n, n), np.int16)
        self._next_label = 1

    def fill(self, mask: Any, colour: Any) -> None:
        """Paint a region over what lies there and give it a label of its own."""
        self.colours[mask] = np.asarray(colour, np.float32)
        self.labels[mask] = self._next_label
        self._next_label += 1


def _compose(
    artist: Artist, scene: Scene, rng: np.random.Generator, n: int
) -> tuple[FloatArray, NDArray[np.int16], tuple[float, float]]:
    """Flat colours (n, n, 3), labels (n, n) and the subject's centre (x, y) in sides."""
    sheet, light = _Sheet(n), _LIGHTS[scene.light]
    jitter = rng.normal(0.0, 1.0, 6)
    horizon = float(np.clip(artist.horizon + 0.03 * jitter[0], 0.3, 0.78))
    ambient = np.asarray(light.ambient, np.float32)
    ground = np.asarray(_GROUNDS[scene.place], np.float32) * ambient
    indoors = scene.place in ("table", "room")
    if indoors:
        _paint_wall(sheet, light, rng)
    else:
        _paint_sky(sheet, scene, light, horizon, rng)
    if scene.place != "room":
        _paint_ground(sheet, scene, light, horizon, ground, rng)
    body = np.asarray(COLOURS[scene.colour], np.float32) * ambient
    hazed = body * (1 - light.haze) + light.haze * np.asarray(light.sky_low, np.float32)
    spots: tuple[tuple[float, float], ...]
    side = 1.0 if rng.random() < 0.5 else -1.0
    zoom = artist.zoom * float(np.exp(0.06 * jitter[1]))
    if scene.count == 2:
        spots = ((0.5 - 0.22 * side, 0.85 * zoom), (0.5 + 0.2 * side, 0.7 * zoom))
    else:
        spots = ((0.5 + 0.07 * float(jitter[2]), zoom),)
    for x, scale in spots:
        _SUBJECTS[scene.subject](sheet, hazed, ambient, x, horizon, scale, side)
    return sheet.colours, sheet.labels, (spots[0][0], horizon)


def _paint_sky(
    sheet: _Sheet, scene: Scene, light: _Light, horizon: float, rng: np.random.Generator
) -> None:
    top, low = np.asarray(light.sky_top, np.float32), np.asarray(light.sky_low, np.float32)
    height = np.clip(sheet.y / horizon, 0, 1)[..., None]
    sheet.colours[:] = top + (low - top) * height
    phase = rng.random(3) * 2 * math.pi
    cloud = np.cos(9 * sheet.x + phase[0]) * np.cos(16 * sheet.y + phase[1])
    cloud = cloud + 0.6 * np.cos(17 * sheet.x - 9 * sheet.y + phase[2])
    veil = np.clip(cloud - 0.3, 0, 1)[..., None] * 0.45
    sheet.colours += (np.float32(0.5) * (low + 1) - sheet.colours) * veil * (0.3 + 0.7 * low.mean())
    sun_x, sun_y = 0.15 + 0.7 * rng.random(), horizon * (0.2 + 0.3 * rng.random())
    if scene.light in ("dusk", "dawn"):
        sun_y = horizon * (0.7 + 0.15 * rng.random())
    disc = (sheet.x - sun_x) ** 2 + (sheet.y - sun_y) ** 2 < 0.055**2
    if scene.light != "fog":
        shine = {"dawn": (1.0, 0.93, 0.75), "noon": (1.0, 0.97, 0.75), "dusk": (1.0, 0.75, 0.3)}
        sheet.fill(disc, shine.get(scene.light, (0.93, 0.93, 0.82)))


def _paint_wall(sheet: _Sheet, light: _Light, rng: np.random.Generator) -> None:
    low = np.asarray(light.sky_low, np.float32)
    glow = np.clip(1.1 - 1.2 * np.hypot(sheet.x - 0.2 - 0.6 * rng.random(), sheet.y - 0.2), 0, 1)
    sheet.colours[:] = np.asarray(light.sky_top, np.float32) * 0.55 + low * 0.2
    sheet.colours += 0.35 * glow[..., None] * low


def _paint_ground(
    sheet: _Sheet, scene: Scene, light: _Light, horizon: float, ground: FloatArray,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    below = np.asarray(sheet.y > horizon)
    if scene.place == "table":
        below = np.asarray(sheet.y > horizon + 0.08)
    low = np.asarray(light.sky_low, np.float32)
    depth = np.clip((sheet.y - horizon) / (1 - horizon), 0, 1)[..., None]
    if scene.place in ("lake", "sea"):
        ground = 0.55 * ground + 0.45 * low
        shade = ground * (1.1 - 0.45 * depth)
    else:
        shade = ground * (1.05 - 0.25 * depth)
    sheet.fill(below, shade[below])
    phase = float(rng.random() * 6.28)
    if scene.place == "sea":
        swell = np.sin(26 * sheet.y + 1.6 * np.sin(9 * sheet.x + phase) + phase)
        crest = np.asarray(below & (swell > 0.55))
        sheet.fill(crest, 0.45 * shade[crest] + 0.55 * (0.4 + 0.6 * low))
    elif scene.place == "lake":
        band = np.asarray(
            below & (np.sin(60 * sheet.y + phase) * np.sin(5 * sheet.x + phase) > 0.6)
        )
        sheet.colours[band] = 0.6 * shade[band] + 0.4 * low
    elif scene.place in ("field", "sand", "snow"):
        rise = horizon + 0.18 + 0.06 * np.sin(5 * sheet.x + phase)
        near = np.asarray(sheet.y > rise)
        sheet.fill(near, shade[near] * np.float32(0.84))


def _boat(
    s: _Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.10) / k
    s.fill((abs(u) < 0.012) & (v > -0.42) & (v < 0), 0.3 * ambient)
    sail = (u > 0.02) & (u < 0.24 * (1 + (v + 0.08) / 0.33)) & (v < -0.06) & (v > -0.40)
    s.fill(sail, np.asarray((0.95, 0.92, 0.84)) * ambient)
    s.fill((v > -0.03) & (v < 0.11) & (abs(u) < 0.30 - 0.9 * np.clip(v, 0, 1)), body)


def _house(
    s: _Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.12) / k
    s.fill((abs(u) < 0.22) & (v > -0.24) & (v < 0.06), body)
    roof = (v <= -0.22) & (v > -0.44) & (abs(u) < 0.29 * (v + 0.44) / 0.22)
    s.fill(roof, np.asarray((0.42, 0.24, 0.20)) * ambient)
    s.fill((abs(u + 0.08) < 0.045) & (v > -0.10) & (v < 0.06), 0.25 * ambient)
    pane = (abs(u - 0.10) < 0.045) & (abs(v + 0.10) < 0.05)
    s.fill(pane, np.asarray((1.0, 0.88, 0.5)) * (0.5 + 0.5 * ambient))


def _tree(
    s: _Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.14) / k
    trunk = (
        (abs(u - 0.03 * np.sin(9 * v)) < 0.035 + 0.12 * np.clip(v, 0, 1)) & (v > -0.3) & (v < 0.08)
    )
    s.fill(trunk, np.asarray((0.34, 0.22, 0.15)) * ambient)
    crown = np.hypot(u, (v + 0.38) / 0.9) < 0.24
    crown |= np.hypot(u - 0.15, v + 0.30) < 0.13
    crown |= np.hypot(u + 0.16, v + 0.27) < 0.12
    s.fill(crown, body)
    s.fill(crown & (np.hypot(u - 0.06, v + 0.42) > 0.22), body * np.float32(0.7))


def _mountain(
    s: _Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y) / k
    ridge = 0.025 * np.sin(23 * u) + 0.015 * np.sin(51 * u)
    far = (v < 0) & (-v < 0.22 - 0.5 * abs(u + 0.38) + ridge)
    s.fill(far, 0.75 * body + 0.15)
    main = (v < 0) & (-v < 0.44 - 0.95 * abs(u - 0.04) + ridge)
    s.fill(main, body)
    s.fill(main & (u > 0.04 + 0.3 * ridge), body * np.float32(0.66))
    cap = main & (-v > 0.31 + 0.8 * ridge)
    s.fill(cap, np.asarray((0.96, 0.97, 1.0)) * ambient)


def _tower(
    s: _Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.12) / k
    s.fill((np.hypot(u, (v - 0.05) / 0.5) < 0.26) & (v > -0.06), 0.35 * ambient)
    shaft = (abs(u) < 0.075 + 0.07 * (v + 0.5)) & (v > -0.50) & (v < 0.02)
    s.fill(shaft, body)
    s.fill(shaft & (np.sin(28 * v + 1) > 0.1), 0.35 * body + 0.6 * ambient)
    s.fill((abs(u) < 0.065) & (v > -0.60) & (v < -0.50), (1.0, 0.92, 0.55))
    s.fill((v < -0.58) & (v > -0.70) & (abs(u) < 0.10 * (v + 0.70) / 0.12), 0.25 * ambient)


def _flowers(
    s: _Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.2) / k
    leaves = np.hypot(u / 1.1, v + 0.30) < 0.24
    s.fill(leaves, np.asarray((0.22, 0.38, 0.18)) * ambient)
    vase = (abs(u) < 0.09 + 0.07 * np.sin(np.clip((v + 0.14) / 0.3, 0, 1) * math.pi)) & (v > -0.14)
    s.fill(vase & (v < 0.16), np.asarray((0.80, 0.82, 0.86)) * ambient)
    blooms = ((-0.17, -0.34), (0.0, -0.48), (0.18, -0.36), (-0.07, -0.26), (0.11, -0.22),
              (-0.25, -0.20), (0.27, -0.24))  # fmt: skip
    for i, (bx, by) in enumerate(blooms):
        distance = np.hypot(u - bx, v - by)
        s.fill(distance < 0.085, body * np.float32(1.0 - 0.08 * (i % 3)))
        s.fill(distance < 0.028, np.asarray((0.95, 0.85, 0.4)) * ambient)


def _fruit(
    s: _Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.18) / k
    for i, (bx, by) in enumerate(((-0.17, -0.13), (0.16, -0.12), (0.0, -0.15), (0.06, -0.28))):
        distance = np.hypot(u - bx, v - by)
        s.fill(distance < 0.115, body * np.float32(1.0 - 0.12 * (i % 2)))
        light_spot = np.hypot(u - bx + 0.035, v - by + 0.035) < 0.03
        s.colours[np.asarray(light_spot)] = 0.4 * body + 0.6
    bowl = (v > -0.10) & (np.hypot(u / 1.5, v + 0.10) < 0.22)
    s.fill(bowl, np.asarray((0.72, 0.76, 0.82)) * ambient)


def _head(s: _Sheet, u: FloatArray, v: FloatArray, ambient: FloatArray) -> None:
    skin = np.asarray((0.90, 0.70, 0.56)) * ambient
    s.fill((abs(u) < 0.07) & (v > 0.10) & (v < 0.28), 0.85 * skin)
    face = np.hypot(u / 0.82, v) < 0.20
    s.fill(face, skin)
    s.fill(face & (u > 0.07 + 0.3 * abs(v)), 0.78 * skin)
    for eye in (-0.06, 0.07):
        s.fill(np.hypot((u - eye) / 1.5, v + 0.02) < 0.019, 0.18 * ambient)
    s.fill(np.hypot(u / 2.2, v - 0.10) < 0.022, np.asarray((0.72, 0.26, 0.24)) * ambient)


def _woman(
    s: _Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    k = 1.15 * k
    u, v = (s.x - x) / k * side, (s.y - 0.40 - 0.3 * (y - 0.55)) / k
    hair = np.asarray((0.30, 0.18, 0.12)) * ambient
    s.fill((np.hypot(u / 0.95, (v - 0.08) / 1.3) < 0.25), hair)
    s.fill((v > 0.24) & (np.hypot(u / 1.25, (v - 0.62) / 1.2) < 0.33), 0.75 * ambient)
    _head(s, np.asarray(u), np.asarray(v), ambient)
    s.fill(np.hypot(u / 2.4, (v + 0.13) / 0.55) < 0.145, body)
    s.fill((np.hypot(u / 1.15, (v + 0.17) / 1.0) < 0.17) & (v < -0.14), body * np.float32(0.85))


def _man(
    s: _Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    k = 1.15 * k
    u, v = (s.x - x) / k * side, (s.y - 0.40 - 0.3 * (y - 0.55)) / k
    hair = np.asarray((0.22, 0.16, 0.13)) * ambient
    s.fill((np.hypot(u / 0.9, (v + 0.05)) < 0.215) & (v < 0.0), hair)
    s.fill((v > 0.22) & (np.hypot(u / 1.35, (v - 0.66) / 1.25) < 0.36), body)
    _head(s, np.asarray(u), np.asarray(v), ambient)
    s.fill((abs(u) < 0.20) & (v < -0.13 - 0.1 * abs(u)) & (v > -0.24), hair)
    s.fill((v > 0.26) & (abs(u) < 0.11 - 0.35 * (v - 0.26)), 0.9 * ambient)


_SUBJECTS = {
    "boat": _boat, "house": _house, "tree": _tree, "mountain": _mountain, "tower": _tower,
    "flowers": _flowers, "fruit": _fruit, "woman": _woman, "man": _man,
}  # fmt: skip


# --------------------------------------------------------------------------- handling


def paint(
    artist: Artist, scene: Scene, rng: np.random.Generator, size: int = 64
) -> NDArray[np.uint8]:
    """Paint a scene by an artist's hand: uint8 (size, size, 3), a function of its arguments only.

    ``rng`` decides what varies between two paintings of one scene (placement, clouds, strokes);
    it is advanced. ``size`` is in pixels; handling scales with it.
    """
    n = SUPERSAMPLE * size
    flat, labels, centre = _compose(artist, scene, rng, n)
    mixed = _mix_colours(artist, flat)
    canvas = _stroke(artist, mixed, labels, centre, rng)
    canvas = _outline(artist, canvas, labels)
    canvas = _surface(artist, canvas)
    canvas = np.float32(artist.contrast) * (canvas - 0.5) + 0.5
    # Sums of strided views: NumPy's mean over short axes is ten times slower.
    total = np.zeros((size, size, 3), np.float32)
    for i in range(SUPERSAMPLE):
        for j in range(SUPERSAMPLE):
            total += canvas[i::SUPERSAMPLE, j::SUPERSAMPLE]
    levels = total * np.float32(255 / SUPERSAMPLE**2) + np.float32(0.5)
    return np.asarray(np.clip(levels, 0, 255), np.uint8)


def _tone(colours: FloatArray) -> FloatArray:
    """Mean of the three channels: (..., 3) to (...)."""
    total = colours[..., 0] + colours[..., 1] + colours[..., 2]
    return np.asarray(total / np.float32(3), np.float32)


def _mix_colours(artist: Artist, flat: FloatArray) -> FloatArray:
    """Pull colours towards the artist's palette, then saturate and warm them."""
    colours = flat
    if artist.levels:
        colours = np.round(colours * artist.levels) / np.float32(artist.levels)
    palette = np.asarray(artist.palette, np.float32)
    pixels = colours.reshape(-1, 3)
    # Soft assignment: a hard one draws borders through every gradient. The exponent is bounded
    # (colours lie near [0, 1]), so no maximum needs to be subtracted.
    weights = np.exp(pixels @ (12 * palette.T) - 6 * (palette**2).sum(1))
    pulled = (weights @ palette) / (weights @ np.ones((len(palette), 1), np.float32))
    pixels = pixels + np.float32(artist.palette_pull) * (pulled - pixels)
    grey = _tone(pixels)[:, None]
    pixels = grey + np.float32(artist.saturation) * (pixels - grey)
    warm = np.asarray((artist.warmth, 0.2 * artist.warmth, -artist.warmth), np.float32)
    return np.asarray((pixels + warm).reshape(flat.shape), np.float32)


def _flow(
    artist: Artist, tone: FloatArray, rows: IntArray, columns: IntArray,
    centre: tuple[float, float],
) -> FloatArray:  # fmt: skip
    """Direction of the brush at pixels (m,), in radians."""
    n = tone.shape[0]
    x, y = columns / n, rows / n
    if artist.field == "straight":
        return np.full(rows.shape, artist.field_angle, np.float32)
    if artist.field == "radial":
        around = np.arctan2(y - centre[1] + 0.15, x - centre[0])
        return np.asarray(around + artist.field_angle, np.float32)
    if artist.field == "swirl":
        turn = 2 * math.pi * artist.field_scale
        wave = np.sin(turn * x + artist.field_angle) + np.cos(turn * y - artist.field_angle)
        return np.asarray(artist.field_angle + 1.1 * wave, np.float32)
    reach = max(n // 32, 1)
    up, down = np.maximum(rows - reach, 0), np.minimum(rows + reach, n - 1)
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach, n - 1)
    dy = tone[down, columns] - tone[up, columns]
    dx = tone[rows, right] - tone[rows, left]
    # Along the form where there is one, in the artist's habitual direction elsewhere.
    flat = np.hypot(dx, dy) < 0.03
    return np.asarray(np.where(flat, artist.field_angle, np.arctan2(dx, -dy)), np.float32)


def _stroke(
    artist: Artist, mixed: FloatArray, labels: NDArray[np.int16], centre: tuple[float, float],
    rng: np.random.Generator,
) -> FloatArray:  # fmt: skip
    """Cover the ground with strokes; later strokes hide earlier ones."""
    n = mixed.shape[0]
    unit = n / 64
    length, width = artist.stroke_length * unit, artist.stroke_width * unit
    count = max(int(artist.coverage * n * n / (length * width)), 1)
    draws = rng.random((count, 4), dtype=np.float32)
    noise = rng.standard_normal((count, 3), dtype=np.float32)
    rows = (draws[:, 0] * n).astype(np.int64)
    columns = (draws[:, 1] * n).astype(np.int64)
    tone = _tone(mixed)
    angle = _flow(artist, tone, rows, columns, centre) + 0.12 * noise[:, 2]
    colour = mixed[rows, columns]
    # One value jitter a stroke, plus a smaller one of hue.
    jitter = np.float32(artist.colour_jitter)
    colour = colour + jitter * noise[:, :1] + 0.5 * jitter * (noise[:, [2, 0, 1]] - noise[:, :1])

    # Stroke coordinates: along in [-1, 1], across in [-1, 1], dense enough to leave no pinholes.
    along = np.linspace(-1, 1, max(int(length / 0.75) + 1, 2), dtype=np.float32)
    across = np.linspace(-1, 1, max(int(width / 0.75) + 1, 2), dtype=np.float32)
    taper = np.sqrt(1 - 0.85 * along**4)
    reach = 0.5 * length * (0.7 + 0.6 * draws[:, 2])
    bend = artist.stroke_bend * (2 * (artist.field_angle < math.pi / 2) - 1)
    side_step = 0.5 * width * taper[:, None] * across[None, :]
    arc = 0.5 * bend * along**2
    cos, sin = np.cos(angle), np.sin(angle)
    forward = reach[:, None] * along[None, :]
    sideways = (reach[:, None] * arc)[:, :, None] + side_step[None]
    px = (
        columns[:, None, None]
        + (cos[:, None] * forward)[:, :, None]
        - sin[:, None, None] * sideways
    )
    py = rows[:, None, None] + (sin[:, None] * forward)[:, :, None] + cos[:, None, None] * sideways
    ix, iy = np.rint(px).astype(np.int32), np.rint(py).astype(np.int32)
    keep = (ix >= 0) & (ix < n) & (iy >= 0) & (iy < n)
    flat_index = np.where(keep, iy * n + ix, 0)
    careful = (draws[:, 3] < artist.edge_fidelity)[:, None, None]
    same = labels.reshape(-1)[flat_index] == labels[rows, columns][:, None, None]
    keep &= same | ~careful

    # Repeated indices: the last assignment stays, which is exactly the painter's order.
    top = np.full(n * n, -1, np.int32)
    points = np.flatnonzero(keep)
    top[flat_index.reshape(-1)[points]] = points
    ground = (0.75 * mixed + 0.25 * np.asarray(artist.palette[0], np.float32)).reshape(-1, 3)
    covered = top >= 0
    point = top[covered]
    per_stroke = along.size * across.size
    ridge = np.float32(artist.bristle) * np.cos(across * np.float32(2.2 * math.pi))
    painted = colour[point // per_stroke] + ridge[point % across.size][:, None]
    ground[covered] = painted
    return ground.reshape(n, n, 3).astype(np.float32, copy=False)


def _outline(artist: Artist, canvas: FloatArray, labels: NDArray[np.int16]) -> FloatArray:
    """Darken the borders between regions, as far as the artist draws them."""
    if artist.outline < 0.05:
        return canvas
    n = labels.shape[0]
    border = np.zeros((n, n), np.float32)
    border[1:, :] += labels[1:, :] != labels[:-1, :]
    border[:, 1:] += labels[:, 1:] != labels[:, :-1]
    border = np.minimum(border, 1)
    for _ in range(max(round(artist.outline_width * n / 64) - 1, 0)):
        grown = border.copy()
        grown[1:, :] = np.maximum(grown[1:, :], border[:-1, :])
        grown[:, 1:] = np.maximum(grown[:, 1:], border[:, :-1])
        border = grown
    ink = np.float32(0.6) * np.asarray(artist.palette[-1], np.float32)
    return canvas + (np.float32(artist.outline) * border)[..., None] * (ink - canvas)


def _surface(artist: Artist, canvas: FloatArray) -> FloatArray:
    """Canvas weave, hatching in the darks, or ridges of a knife."""
    n = canvas.shape[0]
    strength = np.float32(artist.surface_strength)
    turn = np.float32(2 * math.pi * 64 / (n * artist.surface_period))
    axis = np.arange(n, dtype=np.float32) * turn
    if artist.surface == "weave":
        relief = 0.5 * (np.sin(axis)[None, :] + np.sin(axis)[:, None])
        return np.asarray(canvas + (strength * relief)[..., None], np.float32)
    cos, sin = np.float32(math.cos(artist.field_angle)), np.float32(math.sin(artist.field_angle))
    across = np.sin(cos * axis[:, None] - sin * axis[None, :])
    if artist.surface == "ridges":
        return np.asarray(canvas + (strength * across)[..., None], np.float32)
    darkness = np.clip(1.15 - _tone(canvas), 0, 1)
    lines = np.clip(across, 0, 1) * darkness * 1.6
    return np.asarray(canvas * (1 - strength * lines[..., None]), np.float32)


# --------------------------------------------------------------------------- corpus on disk

INDEX_COLUMNS = ("file", "artist", "genre", "caption")


def write_corpus(
    directory: Path, n_artists: int, works_per_artist: int, size: int, seed: int
) -> Path:
    """Write ``ARTIST/000.png`` ... and, last, ``index.csv`` (file, artist, genre, caption).

    Painting ``w`` of artist ``a`` depends on (seed, a, w) alone, so a larger corpus contains the
    smaller. An index that already says the same, with its files there, makes this a no-op.
    Returns the path of the index. Raises CorpusError if the directory holds another corpus.
    """
    from PIL import Image

    directory = Path(directory)
    index = directory / "index.csv"
    artists = make_artists(n_artists, seed)
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
    partial = directory / f"index.csv.{os.getpid()}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(index)
    return index


def _as_csv(rows: list[tuple[str, str, str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(INDEX_COLUMNS)
    writer.writerows(rows)
    return buffer.getvalue()


def _sizes_match(directory: Path, rows: list[tuple[str, str, str, str]], size: int) -> bool:
    """Whether every file is there and the first has the size (opening all would be slow)."""
    from PIL import Image

    if not all((directory / row[0]).is_file() for row in rows):
        return False
    with Image.open(directory / rows[0][0]) as first:
        return first.size == (size, size)
