"""The paper's figures, from scores and curves; weights are never read here.

In the map and the pairs of components: circle, an adapter of the fit; triangle, a
held-out adapter; star, an artist's centroid. Hulls are genres. The figure of the drift has
the paper's marks for it instead (`drift_figure`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lorastyle.records import Role
from lorastyle.report.canvas import new_figure
from lorastyle.report.palette import ACCENT, INK, MUTED, PAPER, Palette
from lorastyle.report.shown import NO_LABEL, Comparison, FloatArray, Points
from lorastyle.report.words import plain

LABEL_SIZE = 7.5
MAX_LABELLED = 24
"""More artists than this are not labelled in the map: the labels would hide the marks."""


def style_map(points: Points, palette: Palette) -> Any:
    """Figure 1 of the paper: the first two components, artists' colours, genres' hulls.

    Both axes have one scale: distances in the figure are distances in the space.
    """
    figure, axes = new_figure(7.2, 5.4)
    ax = axes[0, 0]
    fitted, held_out = points.of(Role.TRAIN.value), points.of(Role.TEST.value)
    both = points.of(Role.TRAIN.value, Role.TEST.value)
    draw_hulls(ax, both, palette)
    draw_marks(ax, fitted, palette, marker="o", size=15, alpha=0.8)
    draw_marks(ax, held_out, palette, marker="^", size=24, alpha=0.9)
    draw_centroids(ax, fitted, palette)
    ax.set_xlabel("component 1")
    ax.set_ylabel("component 2")
    ax.grid(visible=False)
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.04)
    if len(np.unique(fitted.artists)) <= MAX_LABELLED:
        label_centroids(ax, fitted)
    marks = [
        legend_mark("o", "train"),
        legend_mark("^", "test"),
        legend_mark("*", "artist's centroid", 9),
    ]
    genres = [
        legend_mark("s", plain(str(genre)), 8, palette.genre(str(genre)), alpha=0.4)
        for genre in np.unique(both.genres)
    ]
    figure.legend(handles=genres, loc="outside upper left", ncols=5)
    figure.legend(handles=marks, loc="outside lower right", ncols=3)
    return figure


def draw_hulls(ax: Any, points: Points, palette: Palette) -> None:
    """A shaded hull for each genre, wider than its marks by a fortieth of the map."""
    from matplotlib.patches import Polygon

    radius = 0.025 * float(np.ptp(points.xy, axis=0).max()) if len(points.xy) else 0.0
    for genre in np.unique(points.genres[points.artists != NO_LABEL]):
        hull = convex_hull(_widened(points.xy[points.genres == genre], radius))
        if len(hull) >= 3:
            colour = palette.genre(str(genre))
            ax.add_patch(Polygon(hull, closed=True, color=colour, alpha=0.15, lw=0, zorder=0.5))


def draw_marks(
    ax: Any,
    points: Points,
    palette: Palette,
    *,
    marker: str,
    size: float,
    alpha: float = 1.0,
    edge: str = "none",
) -> None:
    """One mark an adapter, in its artist's colour."""
    ax.scatter(
        points.xy[:, 0],
        points.xy[:, 1],
        s=size,
        marker=marker,
        c=[palette.artist(str(artist)) for artist in points.artists],
        alpha=alpha,
        edgecolors=edge,
        linewidths=0.6,
        zorder=2,
    )


def draw_centroids(ax: Any, points: Points, palette: Palette) -> None:
    """A star at each artist's mean."""
    for artist, theirs in points.by_artist():
        style: dict[str, Any] = {"color": palette.artist(artist), "edgecolors": PAPER["light"]}
        ax.scatter(*theirs.xy.mean(axis=0), s=110, marker="*", linewidths=0.9, zorder=4, **style)


def label_centroids(ax: Any, points: Points) -> None:
    """Artists' names, each at the first free side of its star; those that find none are left."""
    from matplotlib.patheffects import withStroke

    ax.autoscale_view()
    ax.apply_aspect()
    to_points = 72.0 / ax.figure.dpi
    stars = {
        artist: to_points * ax.transData.transform(theirs.xy.mean(axis=0))
        for artist, theirs in points.by_artist()
    }
    halo = [withStroke(linewidth=2.2, foreground=PAPER["light"])]
    for artist, offset in free_sides(stars).items():
        ax.annotate(
            plain(artist),
            points.by([artist]).xy.mean(axis=0),
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=LABEL_SIZE,
            zorder=5,
            path_effects=halo,
        )


def free_sides(stars: Mapping[str, FloatArray]) -> dict[str, tuple[float, float]]:
    """Where each name's centre goes from its star (2,), in points, so that none overlap.

    Above, below, right or left, whichever is free first; names without room are absent.
    """
    height = 1.2 * LABEL_SIZE
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in stars.values()]
    chosen: dict[str, tuple[float, float]] = {}
    for artist, (x, y) in stars.items():
        width = 0.58 * LABEL_SIZE * len(artist)
        aside = width / 2 + 8
        for dx, dy in ((0.0, 11.0), (0.0, -11.0), (aside, 0.0), (-aside, 0.0)):
            left, low = x + dx - width / 2, y + dy - height / 2
            box = (left, low, left + width, low + height)
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                chosen[artist] = (dx, dy)
                break
    return chosen


def convex_hull(points: FloatArray) -> FloatArray:
    """Corners of the convex hull in order, (c, 2); fewer than 3 where there is no area.

    >>> convex_hull(np.array([[0., 0.], [2., 0.], [1., 1.], [1., 3.]])).shape
    (3, 2)
    """
    ordered = sorted({(float(x), float(y)) for x, y in points})
    if len(ordered) < 3:
        return np.array(ordered, dtype=np.float64).reshape(-1, 2)
    corners = [*_half_hull(ordered)[:-1], *_half_hull(ordered[::-1])[:-1]]
    return np.array(corners)


def methods(panels: Sequence[tuple[str, Sequence[Comparison]]]) -> Any:
    """Figure 7's question: weights beside image features, with and without calibration."""
    tallest = max(len(rows) for _, rows in panels)
    figure, axes = new_figure(4.6 * len(panels), 0.32 * tallest + 1.0, 1, len(panels))
    for ax, (title, rows) in zip(axes[0], panels, strict=True):
        for place, row in enumerate(rows):
            _draw_method(ax, place, row)
        ax.set_yticks(range(len(rows)), [row.name for row in rows])
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0, labelcolor=INK["light"])
        ax.spines["left"].set_visible(False)
        ax.set_xlim(left=min(0.0, *(row.score for row in rows)), right=1.0)
        percent_axis(ax.xaxis)
        ax.set_title(title)
    return figure


def _draw_method(ax: Any, place: int, row: Comparison) -> None:
    colour = ACCENT["light"] if row.is_adapter else MUTED["light"]
    if row.uncalibrated is not None:
        ends = [row.uncalibrated, row.score]
        ax.plot(ends, [place, place], color=colour, linewidth=2, alpha=0.35, zorder=2)
        ax.plot(row.uncalibrated, place, "o", color=colour, mfc=PAPER["light"], ms=5, zorder=3)
    if row.std is not None:
        ax.errorbar(row.score, place, xerr=row.std, color=colour, linewidth=1, zorder=2)
    ax.plot(row.score, place, "o", color=colour, markersize=6, zorder=4)


def legend_mark(
    marker: str, label: str, size: float = 6, colour: str = MUTED["light"], **more: Any
) -> Any:
    """An entry of a legend that is a mark; `more` as of matplotlib's Line2D."""
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"ls": "none", "marker": marker, "markersize": size, "color": colour}
    return Line2D([], [], label=label, **style, **more)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Do two boxes (left, low, right, high) overlap?"""
    apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
    return not apart


def _widened(xy: FloatArray, radius: float) -> FloatArray:
    """Points on circles around points: their hull has round corners."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray((xy[:, None, :] + circle).reshape(-1, 2))


def percent_axis(axis: Any) -> None:
    """Label an axis of fractions in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def _half_hull(ordered: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Lower hull of points from left to right (upper, of the reverse): Andrew's monotone chain."""
    hull: list[tuple[float, float]] = []
    for point in ordered:
        while len(hull) >= 2 and _turn(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    return hull


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
