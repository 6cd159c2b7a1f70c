"""Figures: right shapes, no global state, the same bytes each time."""

import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import ConvexHull

from lorastyle.report import figures
from lorastyle.report.canvas import css_variables, inline_svg, save_figure, styled
from lorastyle.report.curve_figures import curves
from lorastyle.report.drift_figure import drift
from lorastyle.report.palette import PAPER
from lorastyle.report.panels import curve_panels, drift_pairs, spread_artists
from lorastyle.report.source import read_source


@pytest.fixture(scope="module")
def source(evaluated_run):
    return read_source(evaluated_run, None)


@given(arrays(np.float64, st.tuples(st.integers(0, 12), st.just(2)), elements=st.integers(-5, 5)))
def test_hull_is_that_of_scipy(points):
    hull = figures.convex_hull(points)
    try:
        expected = ConvexHull(points).vertices
    except Exception:  # Qhull refuses what has no area.
        assert len(hull) < 3 or np.linalg.matrix_rank(hull - hull[0]) < 2
        return
    corners = {tuple(point) for point in points[expected]}
    assert {tuple(point) for point in hull} == corners


def test_drawing_leaves_matplotlib_as_it_was(source, tmp_path):
    before = dict(matplotlib.rcParams)
    with styled():
        save_figure(drift(drift_pairs(source), source.palette), tmp_path / "drift")
    assert dict(matplotlib.rcParams) == before


def test_a_figure_is_written_the_same_twice(source, tmp_path):
    space = source.spaces[source.shown_space]
    for name in ("one", "two"):
        with styled():
            figure = figures.style_map(space.points(), source.palette)
            save_figure(figure, tmp_path / name / "style_map")
    for suffix in ("png", "svg"):
        first, second = (tmp_path / name / f"style_map.{suffix}" for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_a_figure_in_the_page_takes_its_colours_from_the_theme(source):
    with styled():
        figure = curves(curve_panels(source))
        text = inline_svg(figure, "x", 'a "label" <', css_variables(source.palette))
    assert text.startswith("<svg")
    assert 'aria-label="a &quot;label&quot; &lt;"' in text
    assert "var(--ink)" in text and "var(--full)" not in text
    assert PAPER["light"] not in text
    assert not re.search(r"#[0-9a-f]{6}\b", text)


def test_names_on_the_map_do_not_overlap():
    rng = np.random.default_rng(0)
    stars = {f"artist number {n}": rng.uniform(0, 300, 2) for n in range(24)}
    sides = figures.free_sides(stars)
    boxes = [
        (stars[name] + side, np.array([0.58 * figures.LABEL_SIZE * len(name), 9.0]))
        for name, side in sides.items()
    ]
    for i, (centre, size) in enumerate(boxes):
        for other, _ in boxes[:i]:
            assert (np.abs(centre - other) >= size - 1e-9).any()
    assert 0 < len(sides) <= 24


def test_at_most_ten_artists_are_shown_from_every_genre():
    artists = np.array([f"a{n:02d}" for n in range(30)])
    genres = np.array([f"g{n % 4}" for n in range(30)])
    chosen = spread_artists(artists, genres)
    assert len(chosen) == len(set(chosen)) == 10
    assert {genres[artists == name][0] for name in chosen} == {"g0", "g1", "g2", "g3"}
