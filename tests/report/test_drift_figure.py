"""Drift, drawn: every mark where the run's scores have it, and as what it is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.markers import MarkerStyle

from lorastyle.report.calibration_section import calibration_section
from lorastyle.report.canvas import styled
from lorastyle.report.drift_figure import drift
from lorastyle.report.palette import INK, PAPER
from lorastyle.report.panels import drift_components, drift_pairs
from lorastyle.report.source import ReportSource, read_source
from lorastyle.report.words import plain
from lorastyle.runs import Run, write_json

N_ARTISTS = 4
SPACE = "delta", "feed_forward"
COMPONENTS = (1, 2), (9, 10)
"""Of ten components that have scores; the choice is twelve."""


@pytest.fixture
def run(make_evaluated_run, tmp_path) -> Run:
    made: Run = make_evaluated_run(tmp_path / "run", N_ARTISTS, 2)
    return made


def scores_of(run: Run) -> pd.DataFrame:
    """The lines of the shown space, and what each adapter is to it."""
    table = pd.read_parquet(run.evaluation_path / "scores.parquet")
    ours = table[(table["representation"] == SPACE[0]) & (table["sub_network"] == SPACE[1])]
    kind = ours["role"].mask((ours["role"] == "train") & ~ours["fit"], "calibration")
    return ours.assign(kind=kind)


def marks(ax: Any, marker: str) -> list[PathCollection]:
    """What is drawn in this shape."""
    shape = MarkerStyle(marker)
    path = shape.get_path().transformed(shape.get_transform())
    return [
        one
        for one in ax.collections
        if isinstance(one, PathCollection)
        and one.get_paths()[0].vertices.shape == path.vertices.shape
        and np.allclose(one.get_paths()[0].vertices, path.vertices)
    ]


def in_order(xy: Any) -> Any:
    return np.array(sorted(map(tuple, np.asarray(xy))))


def drawn(source: ReportSource) -> Any:
    with styled():
        return drift(drift_pairs(source), source.palette)


def test_circles_are_of_the_fit_stars_are_test_and_triangles_calibrated(run: Run) -> None:
    table, figure = scores_of(run), drawn(read_source(run, None))
    panels = [(pair, calibrated) for pair in COMPONENTS for calibrated in (False, True)]
    for ax, (pair, calibrated) in zip(figure.axes, panels, strict=True):
        columns = [f"component_{number}" for number in pair]
        words = f"{pair[0]} and {pair[1]}, {'after' if calibrated else 'before'}"
        assert ax.get_title(loc="left") == f"Components {words} calibration"
        for marker, kind in {"o": "train", "*": "test", "^": "calibration"}.items():
            # Fit adapters have one place, and it is called calibrated.
            here = table["calibrated"] == (calibrated or kind == "train")
            expected = table[here & (table["kind"] == kind)]
            assert len(expected) > N_ARTISTS
            (found,) = marks(ax, marker)
            np.testing.assert_array_equal(
                in_order(found.get_offsets()), in_order(expected[columns])
            )
        circles_stars_triangles = 3
        crosses = 2  # one of them is the rim
        shown = [one for one in ax.collections if isinstance(one, PathCollection)]
        assert len(shown) == circles_stars_triangles + crosses


def test_each_test_adapter_is_tied_to_the_cross_at_the_mean_of_its_artist(run: Run) -> None:
    table = scores_of(run)
    columns = [f"component_{number}" for number in COMPONENTS[1]]
    after = drawn(read_source(run, None)).axes[3]
    means = table[table["fit"]].groupby("artist")[columns].mean()
    crosses = marks(after, "+")
    assert [to_hex(one.get_edgecolor()[0]) for one in crosses] == [PAPER["light"], INK["light"]]
    for one in crosses:
        np.testing.assert_allclose(in_order(one.get_offsets()), in_order(means))
    (lines,) = [one for one in after.collections if isinstance(one, LineCollection)]
    tested = table[table["calibrated"] & (table["kind"] == "test")]
    expected = np.hstack([tested[columns], means.loc[tested["artist"]]])
    found = np.array(lines.get_segments()).reshape(-1, 4)
    np.testing.assert_allclose(in_order(found), in_order(expected))


def test_a_print_in_grey_tells_the_marks_apart(run: Run) -> None:
    """Triangles are hollow, the others are filled; only stars have a rim of ink."""
    ax = drawn(read_source(run, None)).axes[0]
    (circles,), (stars,), (triangles,) = (marks(ax, marker) for marker in "o*^")
    assert {to_hex(face) for face in triangles.get_facecolor()} == {PAPER["light"]}
    assert PAPER["light"] not in {
        to_hex(face) for one in (circles, stars) for face in one.get_facecolor()
    }
    assert {to_hex(edge) for edge in stars.get_edgecolor()} == {INK["light"]}
    assert not len(circles.get_edgecolor())


def test_the_legends_say_what_each_mark_is_and_whose_colour(run: Run) -> None:
    source = read_source(run, None)
    marks_of, artists = drawn(source).legends
    names = [text.get_text() for text in marks_of.get_texts()]
    signs = [handle.get_marker() for handle in marks_of.legend_handles]
    assert [name.split()[0] for name in names] == ["train:", "test", "calibration:", "artist's"]
    assert signs == ["o", "*", "^", "+"]
    assert {
        text.get_text(): to_hex(handle.get_color())
        for text, handle in zip(artists.get_texts(), artists.legend_handles, strict=True)
    } == {plain(artist): source.palette.artist(artist) for artist in source.artists}
    page = BeautifulSoup(calibration_section(source) or "", "html.parser")
    items = [item.get_text() for item in page.select("ul.lines li")]
    assert items == [
        *(sign + name for sign, name in zip("●★△+", names, strict=True)),
        *map(plain, source.artists),
    ]


def test_all_panels_of_a_pair_have_one_frame_around_everything(run: Run) -> None:
    for pair in drift_pairs(read_source(run, None)):
        low, high = pair.frame
        for points in (pair.fitted, pair.before, pair.after):
            assert (points.xy >= low).all() and (points.xy <= high).all()


@pytest.mark.parametrize(
    ("used", "kept", "expected"),
    [
        (None, 10, [(0, 1), (8, 9)]),
        (6, 10, [(0, 1), (4, 5)]),
        (4, 10, [(0, 1), (2, 3)]),
        (3, 10, [(0, 1)]),
        (40, 1, []),
    ],
)
def test_the_first_components_and_the_last_that_are_used_are_shown(used, kept, expected) -> None:
    assert drift_components(used, kept) == expected


def test_an_artist_without_fit_or_without_test_adapters_is_not_drawn(run: Run) -> None:
    path = run.evaluation_path / "scores.parquet"
    table = pd.read_parquet(path)
    artists = sorted(table["artist"].unique())
    no_fit = (table["artist"] == artists[0]) & table["fit"]
    no_test = (table["artist"] == artists[1]) & (table["role"] == "test")
    table[~no_fit & ~no_test].to_parquet(path)
    for pair in drift_pairs(read_source(run, None)):
        for points in (pair.fitted, pair.before, pair.after):
            assert sorted(np.unique(points.artists)) == artists[2:]


def test_without_calibration_or_test_adapters_there_is_nothing_to_draw(run: Run) -> None:
    path = run.evaluation_path / "scores.parquet"
    table = pd.read_parquet(path)
    for kept in (table["calibrated"], table["role"] != "test"):
        table[kept].to_parquet(path)
        source = read_source(run, None)
        assert drift_pairs(source) == [] and calibration_section(source) is None


def test_the_page_says_how_large_the_drift_is(run: Run) -> None:
    metrics = json.loads(run.metrics_path.read_text())
    metrics["clustering"]["/".join(SPACE)]["calibration_diagnostics"] = {
        "drift": {
            "calibration": {"before": 1.244, "after": 0.6, "expected": 0.71},
            "test": {"before": 2.57, "after": 2.19, "expected": 0.72},
        }
    }
    assert "Measured over" not in (calibration_section(read_source(run, None)) or "")
    write_json(run.metrics_path, metrics)
    text = BeautifulSoup(calibration_section(read_source(run, None)) or "", "html.parser").text
    assert "over the 12 components that clustering uses" in text
    assert "Test adapters: 2.57 before calibration, 2.19 after it, 0.72 by chance alone." in text
    assert "Calibration adapters: 1.24 before calibration, 0.60 after it, 0.71 by chance" in text
