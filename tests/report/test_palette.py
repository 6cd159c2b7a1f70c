"""Colours: told apart by colour-blind readers, stable, readable on both pages."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from lorastyle.report.palette import (
    OTHER_COLOURS,
    PAPER,
    SUB_NETWORK_COLOURS,
    make_palette,
    oklch_to_hex,
    sub_network_colours,
)

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
VISION = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "ordinary": np.eye(3).tolist(),
}


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_lms) @ np.clip(rgb, 0, None))


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_genres_are_told_apart_by_colour_blind_readers(vision, theme):
    palette = make_palette({f"artist {n}": f"genre {n}" for n in range(6)})
    seen = [
        oklab(np.array(VISION[vision]) @ linear(palette.genre(f"genre {n}", theme)))
        for n in range(6)
    ]
    # 0.02 is about the smallest difference that is seen between patches side by side.
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.08


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_sub_networks_are_told_apart_by_colour_blind_readers(vision, theme):
    colours = [*SUB_NETWORK_COLOURS.values(), *OTHER_COLOURS]
    seen = [oklab(np.array(VISION[vision]) @ linear(colour[theme])) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.08


def test_other_sub_networks_take_colours_in_turn_and_leave_the_papers_alone():
    names = ["up", "full", "to_q", "down", "mid", "res1"]
    colours = sub_network_colours(names)
    assert colours["full"] == SUB_NETWORK_COLOURS["full"]
    others = [colours[name] for name in names if name != "full"]
    assert others == [*OTHER_COLOURS, OTHER_COLOURS[0]]


@pytest.mark.parametrize("n_artists", [2, 12, 63])
@pytest.mark.parametrize("n_genres", [1, 4, 14])
def test_no_two_artists_share_a_colour(n_artists, n_genres):
    palette = make_palette({f"a{n:02d}": f"g{n % n_genres:02d}" for n in range(n_artists)})
    for theme in ("light", "dark"):
        assert len(set(palette.artists[theme].values())) == n_artists


def test_colours_depend_on_names_and_not_on_their_order():
    genre_of = {f"a{n}": f"g{n % 3}" for n in range(9)}
    backwards = dict(reversed(genre_of.items()))
    assert make_palette(genre_of) == make_palette(backwards)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_mark_stands_out_from_the_page(theme):
    palette = make_palette({f"a{n}": f"g{n % 5}" for n in range(60)})
    paper = oklab(linear(PAPER[theme]))
    assert min(abs(oklab(linear(c))[0] - paper[0]) for c in palette.artists[theme].values()) > 0.14


def test_oklch_agrees_with_its_inverse():
    for hue in range(0, 360, 15):
        lightness, a, b = oklab(linear(oklch_to_hex(0.6, 0.08, hue)))
        assert lightness == pytest.approx(0.6, abs=0.01)
        assert np.hypot(a, b) == pytest.approx(0.08, abs=0.01)
        assert (np.degrees(np.arctan2(b, a)) - hue + 180) % 360 - 180 == pytest.approx(0, abs=5)


def test_chroma_gives_way_before_lightness_where_srgb_ends():
    lightness = [oklab(linear(oklch_to_hex(level, 0.4, 250)))[0] for level in (0.3, 0.5, 0.7)]
    assert all(later - earlier > 0.15 for earlier, later in pairwise(lightness))
