"""Scores against the PC count, and against the rank.

Marks mean the same in both: a dot is what was chosen, a ring where the largest
score was, a band or a bar one standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorastyle.report.canvas import new_figure
from lorastyle.report.figures import percent_axis
from lorastyle.report.palette import MUTED, PAPER
from lorastyle.report.shown import CurveLine, CurvePanel, RankLine, RankPanel

DASHES = (0, (3, 2))
BROKEN = (0, (6, 1.5, 1, 1.5))
MAX_FAINT_POINTS = 50
"""Of a line that is only part of a crowd; there may be hundreds."""
MAX_BANDS = 4
"""More bands than this hide each other: then only the highest line has one."""


def draw_curves(ax: Any, panel: CurvePanel) -> None:
    """A validation score against the PC count, a line a sub-network, dashed at its choice."""
    from matplotlib.ticker import MaxNLocator

    for line in panel.others:
        step = 1 + (len(line.x) - 1) // MAX_FAINT_POINTS
        ax.plot(
            line.x[::step],
            line.y[::step],
            color=MUTED["light"],
            linewidth=0.6,
            alpha=0.35,
            zorder=1,
        )
    highest = max(panel.lines, key=lambda line: line.y.max())
    for line in panel.lines:
        _draw_curve(ax, line, band=line is highest or len(panel.lines) <= MAX_BANDS)
    ax.set_xlabel("components")
    ax.set_ylabel(panel.score)
    percent_axis(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    ax.set_xlim(left=0)
    # Worse than chance is below nothing: an ARI may be.
    ax.set_ylim(bottom=min(0.0, *(line.y.min() for line in (*panel.lines, *panel.others))))
    ax.grid(axis="x", visible=False)


def _draw_curve(ax: Any, line: CurveLine, *, band: bool) -> None:
    style = BROKEN if line.broken else "-"
    ax.plot(line.x, line.y, color=line.colour, lw=1.5, ls=style, label=line.name, zorder=3)
    if band:
        low, high = line.y - line.spread, line.y + line.spread
        ax.fill_between(line.x, low, high, color=line.colour, alpha=0.14, linewidth=0)
    if line.chosen in line.x:
        top = line.y[line.x == line.chosen][0]
        # From the bottom up: lines that share a count share their dashes as well.
        ax.plot([line.chosen] * 2, [0, top], color=line.colour, lw=0.9, ls=DASHES, zorder=2)
        ax.plot(line.chosen, top, "o", color=line.colour, markersize=4.5, zorder=5)
    if line.argmax in line.x:
        top = line.y[line.x == line.argmax][0]
        ring = {"mfc": PAPER["light"], "mew": 1.1, "markersize": 4.5}
        ax.plot(line.argmax, top, "o", color=line.colour, zorder=4, **ring)


def draw_ranks(ax: Any, panel: RankPanel) -> None:
    """A score against the rank: solid where it was trained, dashed where updates were cut to it."""
    from matplotlib.ticker import FixedLocator, NullLocator

    for line in panel.lines:
        _draw_rank_line(ax, line)
    ranks = sorted({int(rank) for line in panel.lines for rank in line.ranks})
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(ranks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda rank, _: f"{rank:.0f}")
    ax.set_xlabel("rank")
    ax.set_ylabel(panel.score)
    percent_axis(ax.yaxis)
    ax.grid(axis="x", visible=False)


def _draw_rank_line(ax: Any, line: RankLine) -> None:
    fill = PAPER["light"] if line.truncated else line.colour
    ax.errorbar(
        line.ranks,
        line.y,
        yerr=line.spread,
        color=line.colour,
        ls=DASHES if line.truncated else "-",
        marker="o",
        mfc=fill,
        markersize=5,
        linewidth=1.5,
        elinewidth=0.9,
        label=None if line.truncated else line.name,
        zorder=2 if line.truncated else 3,
    )


def curves(panels: Sequence[CurvePanel]) -> Any:
    """Supplementary figures 3 and 4 of the paper."""
    columns = min(3, len(panels))
    figure, axes = _sheet(panels, columns, draw_curves)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if n_others := max(len(panel.others) for panel in panels):
        handles.append(_key("-", lw=0.6, alpha=0.5))
        labels.append(f"{n_others} others" if n_others > 1 else "1 other")
    lines = [line for panel in panels for line in panel.lines]
    if any(line.chosen for line in lines):
        handles.append(_key("none", marker="o", markersize=4.5))
        labels.append("chosen")
    if any(line.argmax for line in lines):
        handles.append(_key("none", marker="o", markersize=4.5, mfc=PAPER["light"]))
        labels.append("largest, where not chosen")
    figure.legend(handles, labels, loc="outside upper left", ncols=4 if columns > 2 else 3)
    return figure


def ranks(panels: Sequence[RankPanel]) -> Any:
    """Does a smaller rank do, and need it be trained?"""
    figure, axes = _sheet(panels, len(panels), draw_ranks)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if any(line.truncated for panel in panels for line in panel.lines):
        dot = {"marker": "o", "markersize": 5}
        handles += [_key("-", **dot), _key(DASHES, mfc=PAPER["light"], **dot)]
        labels += ["trained at this rank", "cut to this rank"]
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


def _sheet(panels: Sequence[Any], columns: int, draw: Any) -> tuple[Any, Any]:
    rows = -(-len(panels) // columns)
    width = 3.15 if columns > 2 else 4.2
    figure, axes = new_figure(width * columns, 2.9 * rows + 0.6, rows, columns)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes.flat, panels, strict=False):
        draw(ax, panel)
        ax.set_title(panel.title, pad=20 if panel.note else None)
        ax.annotate(
            panel.note,
            (0, 1),
            xytext=(0, 6),
            xycoords="axes fraction",
            textcoords="offset points",
            color=MUTED["light"],
        )
    return figure, axes


def _key(style: Any, **more: Any) -> Any:
    """An entry of a legend that is of no line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=MUTED["light"], ls=style, **more)
