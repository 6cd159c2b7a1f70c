"""The paper's figures, from scores and curves; weights are never read here.

Marks mean the same in every figure: circle, an adapter of the fit; triangle, a
held-out adapter; star, an artist's centroid. Hulls are genres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lorastyle.records import Role
from lorastyle.report.canvas import new_figure
from lorastyle.report.palette import ACCENT, INK, MUTED, PAPER, SUB_NETWORK_COLOURS, Palette
from lorastyle.report.shown import Comparison, CurvePanel, DriftPair, FloatArray, Points
from lorastyle.report.words import SCORE_NAMES, SUB_NETWORK_NAMES, plain

MAX_LABELLED = 24
"""More artists than this are not labelled in the map: the labels would hide the marks."""


def style_map(points: Points, palette: Palette) -> Any:
    """Figure 1 of the paper: the first two components, artists' colours, genres' hulls."""
    figure, axes = new_figure(7.2, 5.2)
    ax = axes[0, 0]
    fitted, held_out = points.of(Role.TRAIN.value), points.of(Role.TEST.value)
    draw_hulls(ax, points.of(Role.TRAIN.value, Role.TEST.value), palette)
    draw_marks(ax, fitted, palette, marker="o", size=16, alpha=0.75)
    draw_marks(ax, held_out, palette, marker="^", size=30, edge=INK["light"])
    draw_centroids(ax, fitted, palette, labelled=len(np.unique(fitted.artists)) <= MAX_LABELLED)
    ax.set_xlabel("component 1")
    ax.set_ylabel("component 2")
    ax.margins(0.06)
    handles = [_handle("o", "train"), _handle("^", "test"), _handle("*", "artist's centroid", 10)]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def draw_hulls(ax: Any, points: Points, palette: Palette) -> None:
    """A shaded convex hull for each genre, named at its upper edge."""
    from matplotlib.patches import Polygon

    for genre in np.unique(points.genres):
        hull = convex_hull(points.xy[points.genres == genre])
        if len(hull) < 3:
            continue
        colour = palette.genre(str(genre))
        style: dict[str, Any] = {"facecolor": colour, "edgecolor": colour, "joinstyle": "round"}
        ax.add_patch(Polygon(hull, closed=True, alpha=0.14, linewidth=10, zorder=0.5, **style))


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


def draw_centroids(ax: Any, points: Points, palette: Palette, *, labelled: bool) -> None:
    """A star at each artist's mean."""
    from matplotlib.patheffects import withStroke

    for artist, theirs in points.by_artist():
        x, y = theirs.xy.mean(axis=0)
        colour = palette.artist(artist)
        ax.scatter(
            x,
            y,
            s=110,
            marker="*",
            color=colour,
            edgecolors=PAPER["light"],
            linewidths=0.9,
            zorder=4,
        )
        if labelled:
            ax.annotate(
                plain(artist),
                (x, y),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                zorder=5,
                path_effects=[withStroke(linewidth=2.2, foreground=PAPER["light"])],
            )


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


def draw_curves(ax: Any, panel: CurvePanel) -> None:
    """A validation score against the PC count, a line a sub-network, dashed at its choice."""
    for sub_network, curve in panel.curves.items():
        colour = SUB_NETWORK_COLOURS[sub_network]["light"]
        x, y = curve["n_components"].to_numpy(), curve["mean"].to_numpy(dtype=np.float64)
        ax.plot(x, y, color=colour, linewidth=1.6, label=SUB_NETWORK_NAMES[sub_network], zorder=3)
        if "std" in curve:
            spread = curve["std"].fillna(0.0).to_numpy(dtype=np.float64)
            ax.fill_between(x, y - spread, y + spread, color=colour, alpha=0.12, linewidth=0)
        best = panel.chosen.get(sub_network)
        if best is not None and (x == best).any():
            top = y[x == best][0]
            # From the bottom up: lines that share a count share their dashes as well.
            ax.plot([best, best], [0, top], color=colour, lw=1.0, ls=(0, (3, 2)), zorder=2)
            ax.plot(best, top, "o", color=colour, markersize=4.5, zorder=4)
    ax.set_xlabel("components")
    ax.set_ylabel(SCORE_NAMES[panel.score])
    _percent_axis(ax.yaxis)
    ax.set_ylim(bottom=0)
    ax.grid(axis="x", visible=False)


def components(panels: Sequence[CurvePanel]) -> Any:
    """Supplementary figures 3 and 4 of the paper."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(4.4 * columns, 2.9 * rows + 0.4, rows, columns)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes.flat, panels, strict=False):
        draw_curves(ax, panel)
        ax.set_title(panel.title)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def draw_drift(
    ax: Any, fitted: Points, held_out: Points, palette: Palette, frame: FloatArray
) -> None:
    """Held-out adapters (triangles) over those of the fit (circles), a line to their centroid.

    `frame` (2, 2) holds the lowest and the highest x and y.
    """
    from matplotlib.collections import LineCollection

    draw_marks(ax, fitted, palette, marker="o", size=13, alpha=0.45)
    centroids = {artist: theirs.xy.mean(axis=0) for artist, theirs in fitted.by_artist()}
    names = [str(artist) for artist in held_out.artists]
    lines = [(start, centroids[name]) for start, name in zip(held_out.xy, names, strict=True)]
    colours = [palette.artist(name) for name in names]
    ax.add_collection(LineCollection(lines, colors=colours, linewidths=0.9, alpha=0.7, zorder=1.5))
    draw_marks(ax, held_out, palette, marker="^", size=34, edge=INK["light"])
    ax.set_xlim(frame[:, 0])
    ax.set_ylim(frame[:, 1])
    ax.set_xticklabels([])
    ax.set_yticklabels([])
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(True)


def drift(pairs: Sequence[DriftPair], palette: Palette) -> Any:
    """Figures 5 and 8 of the paper: before calibration beside after it."""
    figure, axes = new_figure(8.4, 3.5 * len(pairs), len(pairs), 2)
    for row, pair in zip(axes, pairs, strict=True):
        for ax, (title, held_out) in zip(row, pair.panels, strict=True):
            draw_drift(ax, pair.fitted, held_out, palette, pair.frame)
            ax.set_title(title)
    return figure


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
        _percent_axis(ax.xaxis)
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


def _handle(marker: str, label: str, size: float = 6) -> Any:
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"linestyle": "none", "color": MUTED["light"]}
    return Line2D([], [], marker=marker, label=label, markersize=size, **style)


def _percent_axis(axis: Any) -> None:
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
