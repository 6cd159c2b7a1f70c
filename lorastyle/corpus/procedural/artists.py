"""Artists who never lived: a name, and the numbers of a hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lorastyle.errors import CorpusError

BASE_SEED = 0
"""Seed of the artists that the miniature base model was trained on; evaluation uses others."""

MAX_SEED = 2**24
MAX_ARTISTS = 1024
GENRES = ("plein_air", "expressive", "pointillist", "woodblock", "tonalist")
FIELDS = ("straight", "swirl", "contour", "radial")
SURFACES = ("none", "weave", "hatch", "ridges")

N_SCHOOLS = 4
FOLLOWER_KEEPS = 0.85
"""Share of the founder's numbers that a follower keeps."""
APPRENTICE_KEEPS = 0.90
_HAND = (
    "stroke_length", "stroke_width", "stroke_bend", "coverage", "colour_jitter", "bristle",
    "edge_fidelity", "outline", "outline_width", "surface_strength", "surface_period",
    "field_scale",
)  # fmt: skip
_COLOUR = ("palette_pull", "saturation", "warmth", "contrast")


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
    _check(n_artists, seed)
    artists: list[Artist] = []
    for number in range(n_artists):
        own = _invent(seed, number)
        rng = np.random.default_rng([seed, number, 1])
        masters = [a for a in artists if a.genre == own.genre and a.master is None]
        if number >= 10 and number % 4 == 2 and masters:
            own = _apprentice(own, masters[int(rng.integers(len(masters)))], rng)
        artists.append(own)
    return tuple(artists)


def make_schools(n_artists: int, seed: int) -> tuple[Artist, ...]:
    """Artists in four schools, harder to tell apart than `make_artists`: what corpora are made of.

    A school is a genre's founder and followers who keep most of the founder's hand and colours,
    and compose in their own way; every third follower is an apprentice and keeps more. Each
    artist moves from the founder towards what `make_artists` would invent for the same number.

    Raises CorpusError as `make_artists` does.
    """
    _check(n_artists, seed)
    schools = [_invent(seed, number) for number in range(N_SCHOOLS)]
    artists = list(schools[:n_artists])
    for number in range(N_SCHOOLS, n_artists):
        rank, school = divmod(number, N_SCHOOLS)
        own = replace(_invent(seed, rank * len(GENRES) + school), name=_name(seed, number))
        artists.append(_follower(own, schools[school], apprentice=(number - N_SCHOOLS) % 3 == 2))
    return tuple(artists)


def _check(n_artists: int, seed: int) -> None:
    if not 1 <= n_artists <= MAX_ARTISTS:
        raise CorpusError(f"n_artists must be in [1, {MAX_ARTISTS}], got {n_artists}")
    if not 0 <= seed < MAX_SEED:
        raise CorpusError(f"an artists' seed must be in [0, {MAX_SEED}), got {seed}")


def _follower(own: Artist, founder: Artist, *, apprentice: bool) -> Artist:
    """The founder's hand and colours, a little towards the follower's own; own composition."""
    keeps = APPRENTICE_KEEPS if apprentice else FOLLOWER_KEEPS
    moved: dict[str, Any] = {
        name: keeps * getattr(founder, name) + (1 - keeps) * getattr(own, name)
        for name in (*_HAND, *_COLOUR)
    }
    moved["palette"] = tuple(
        tuple(keeps * theirs + (1 - keeps) * mine for theirs, mine in zip(*pair, strict=True))
        for pair in zip(founder.palette, own.palette, strict=True)
    )
    # Angles are modulo pi; a blend across the seam would turn the hand by a right angle.
    turn = (own.field_angle - founder.field_angle + math.pi / 2) % math.pi - math.pi / 2
    moved["field_angle"] = (founder.field_angle + (1 - keeps) * turn) % math.pi
    return replace(
        own,
        master=founder.name if apprentice else None,
        field=founder.field,
        surface=founder.surface,
        levels=founder.levels,
        **moved,
    )


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
_NOT_BLENDED = frozenset({"name", "genre", "master", "palette", "field", "levels", "surface"})


def _apprentice(own: Artist, master: Artist, rng: np.random.Generator) -> Artist:
    """The master's hand, moved by a quarter of the way towards the pupil's own inclinations."""
    share = 0.25
    moved = {
        f.name: (1 - share) * getattr(master, f.name) + share * getattr(own, f.name)
        for f in fields(Artist)
        if f.name not in _NOT_BLENDED
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
