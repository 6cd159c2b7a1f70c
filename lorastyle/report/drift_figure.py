"""Figures 5 and 8 of the paper: where held-out adapters lie before and after calibration.

Marks are the paper's: circles, adapters of the fit; stars, test adapters; triangles, those
that calibrated. A cross is an artist's centroid, of the fit adapters. Shapes and filling tell them
apart, so a print in grey does as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorastyle.records import Role
from lorastyle.report.canvas import new_figure
from lorastyle.report.figures import draw_marks, legend_mark
from lorastyle.report.palette import INK, MUTED, PAPER, Palette
from lorastyle.report.shown import DriftPair, FloatArray, Points
from lorastyle.report.source import CALIBRATION, FIT
from lorastyle.report.words import plain


@dataclass(frozen=True)
class DriftMark:
    """How one kind of adapter, or the centroid, is drawn, and what legends say of it."""

    marker: str
    """matplotlib's name of the shape."""
    sign: str
    """The same as a character, for the page's legend."""
    name: str
    size: float
    """In points."""


WIDTH = 8.4
"""In inches."""
LETTER = 0.075
"""Width of a letter of legends, in inches."""
TEST = Role.TEST.value
CENTROID = "centroid"
DRIFT_MARKS: Mapping[str, DriftMark] = {
    FIT: DriftMark("o", "●", "train: the PCA was fitted on it", 3.7),
    TEST: DriftMark("*", "★", "test", 9.5),
    CALIBRATION: DriftMark("^", "△", "calibration: s and t were fitted on it", 5.5),
    CENTROID: DriftMark("+", "+", "artist's centroid, of train", 8.0),
}


def drift(pairs: Sequence[DriftPair], palette: Palette) -> Any:
    """Before calibration beside after it, a row a pair of components."""
    figure, axes = new_figure(WIDTH, 3.5 * len(pairs) + 0.9, len(pairs), 2)
    for row, pair in zip(axes, pairs, strict=True):
        for ax, (title, held_out) in zip(row, pair.panels, strict=True):
            draw_drift(ax, pair.fitted, held_out, palette, pair.frame)
            ax.set_title(title)
    artists = [artist for artist, _ in pairs[0].fitted.by_artist()]
    marks = [_handle(mark) for mark in DRIFT_MARKS.values()]
    colours = [legend_mark("s", plain(artist), 6, palette.artist(artist)) for artist in artists]
    figure.legend(handles=marks, loc="outside upper left", ncols=len(marks), columnspacing=1.4)
    figure.legend(handles=colours, loc="outside lower left", ncols=_columns(artists))
    return figure


def draw_drift(
    ax: Any, fitted: Points, held_out: Points, palette: Palette, frame: FloatArray
) -> None:
    """Test and calibration adapters over those of the fit; test ones tied to their centroids.

    Of `held_out` only these two kinds are drawn; each must have its artist among `fitted`. `frame`
    (2, 2) holds the lowest and the highest x and y.
    """
    centroids = {artist: theirs.xy.mean(axis=0) for artist, theirs in fitted.by_artist()}
    tested, calibrating = held_out.of(TEST), held_out.of(CALIBRATION)
    draw_marks(ax, fitted, palette, marker=DRIFT_MARKS[FIT].marker, size=_area(FIT), alpha=0.6)
    _draw_ties(ax, tested, centroids, palette)
    _draw_hollow(ax, calibrating, palette)
    star = DRIFT_MARKS[TEST].marker
    draw_marks(ax, tested, palette, marker=star, size=_area(TEST), edge=INK["light"])
    _draw_crosses(ax, np.array(list(centroids.values())).reshape(-1, 2))
    ax.set_xlim(frame[:, 0])
    ax.set_ylim(frame[:, 1])
    ax.set_xticklabels([])
    ax.set_yticklabels([])
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(True)


def _draw_ties(
    ax: Any, points: Points, centroids: Mapping[str, FloatArray], palette: Palette
) -> None:
    """A line from each adapter to its artist's centroid (2,)."""
    from matplotlib.collections import LineCollection

    names = [str(artist) for artist in points.artists]
    lines = [(start, centroids[name]) for start, name in zip(points.xy, names, strict=True)]
    colours = [palette.artist(name) for name in names]
    ax.add_collection(LineCollection(lines, colors=colours, linewidths=0.9, alpha=0.7, zorder=1.5))


def _draw_hollow(ax: Any, points: Points, palette: Palette) -> None:
    """Calibration adapters: hollow, for the fit ones and the test ones are filled."""
    ax.scatter(
        *points.xy.T,
        s=_area(CALIBRATION),
        marker=DRIFT_MARKS[CALIBRATION].marker,
        facecolors=PAPER["light"],
        edgecolors=[palette.artist(str(artist)) for artist in points.artists],
        linewidths=1.4,
        zorder=3,
    )


def _draw_crosses(ax: Any, xy: FloatArray) -> None:
    """Centroids: a cross with a rim, or it would be lost on the marks that it lies among."""
    marker = DRIFT_MARKS[CENTROID].marker
    for colour, width in ((PAPER["light"], 3.2), (INK["light"], 1.3)):
        ax.scatter(*xy.T, s=_area(CENTROID), marker=marker, c=colour, linewidths=width, zorder=4)


def _area(kind: str) -> float:
    return DRIFT_MARKS[kind].size ** 2


def _handle(mark: DriftMark) -> Any:
    hollow = mark is DRIFT_MARKS[CALIBRATION]
    return legend_mark(
        mark.marker,
        mark.name,
        mark.size,
        INK["light"] if mark is DRIFT_MARKS[CENTROID] else MUTED["light"],
        markerfacecolor=PAPER["light"] if hollow else MUTED["light"],
        markeredgewidth=1.2 if hollow or mark is DRIFT_MARKS[CENTROID] else 0.6,
    )


def _columns(names: Sequence[str]) -> int:
    """How many names stand side by side below the figure."""
    return max(1, min(5, int(WIDTH / (LETTER * max(map(len, names)) + 0.45))))
