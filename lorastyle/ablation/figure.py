"""Scores against an ordered factor: clustering, retrieval, and how far held-out adapters drift.

Drawn as the curves of the sweep are. A solid line is of the test adapters, its band the interval
over artists; a broken one of the validation adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lorastyle.ablation.levels import Ablation, Level, Number, drift_prefix
from lorastyle.evaluation.swept import TRUNCATED
from lorastyle.report.canvas import new_figure, styled
from lorastyle.report.curve_figures import DASHES
from lorastyle.report.figures import percent_axis
from lorastyle.report.palette import ACCENT, INK, MUTED, OTHER_COLOURS, PAPER
from lorastyle.report.words import representation_name

COLOURS = tuple(each["light"] for each in (INK, ACCENT, *OTHER_COLOURS))
AXES: Mapping[str, str] = {
    "components": "components",
    "gallery-size": "adapters an artist",
    "rank": "rank",
    "images": "images an adapter",
}
"""By factor, what its axis is of."""
DOTS = (0, (1, 2))


class Line(NamedTuple):
    """Levels that belong together, ascending, and their colour."""

    name: str
    colour: str
    truncated: bool
    levels: Sequence[tuple[Level, Mapping[str, Number]]]

    def points(self, key: str) -> list[tuple[int, Number]]:
        """The values at which there is a score."""
        return [(one.number, numbers[key]) for one, numbers in self.levels if key in numbers]


class Panel(NamedTuple):
    """One of the figure's plots."""

    title: str
    label: str
    keys: tuple[str, ...]
    """Scores of which there must be one."""
    draw: Callable[[Any, Line], None]


def ablation_figure(ablation: Ablation) -> Any | None:
    """A figure of an ordered factor; None where the factor is not, or nothing was scored."""
    if not ablation.factor.is_ordered:
        return None
    lines = _lines(ablation)
    panels = [
        panel
        for panel in _panels(drift_prefix(ablation.factor))
        if any(line.points(key) for line in lines for key in panel.keys)
    ]
    if not panels:
        return None
    with styled():
        return _drawn(ablation, panels, lines)


def _drawn(ablation: Ablation, panels: Sequence[Panel], lines: Sequence[Line]) -> Any:
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(4.2 * columns, 2.7 * rows + 0.7, rows, columns)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes.flat, panels, strict=False):
        for line in lines:
            panel.draw(ax, line)
        ax.set_title(panel.title)
        ax.set_ylabel(panel.label)
        if panel.keys[0].startswith("drift"):
            ax.set_ylim(bottom=0)
        else:
            percent_axis(ax.yaxis)
        _scale(ax, ablation)
    handles, labels = _legend(ablation, lines, panels)
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


def _lines(ablation: Ablation) -> list[Line]:
    """A line for each representation, and of ranks for each way to come to them."""
    lines = []
    for place, representation in enumerate(ablation.representations):
        here = [one for one in ablation.levels if one.representation == representation]
        for how in dict.fromkeys(level.how for level in here):
            levels = sorted((one for one in here if one.how == how), key=lambda one: one.number)
            name, colour = representation_name(representation), COLOURS[place % len(COLOURS)]
            found = [(level, level.numbers()) for level in levels]
            lines.append(Line(name, colour, how == TRUNCATED, found))
    return lines


def _panels(drift: str) -> list[Panel]:
    return [
        *(
            Panel(title, label, (f"{score}/test", f"{score}/val"), _scores(score, task))
            for title, label, score, task in (
                ("Clustering", "ARI", "ari", "clustering"),
                ("Retrieval", "mAP", "map", "retrieval"),
            )
        ),
        *(
            Panel(
                f"Drift of {whose}",
                "in spreads within artists",
                (f"{drift}/{task}/test/after",),
                _drift(f"{drift}/{task}/test"),
            )
            for whose, task in (("test adapters", "clustering"), ("test queries", "retrieval"))
        ),
    ]


def _scores(score: str, task: str) -> Callable[[Any, Line], None]:
    def draw(ax: Any, line: Line) -> None:
        style: dict[str, Any] = {"color": line.colour, "ls": DASHES if line.truncated else "-"}
        validation = line.points(f"{score}/val")
        if not line.truncated:
            ax.plot(*_xy(validation), color=line.colour, lw=0.8, ls=DASHES, zorder=2)
        test = line.points(f"{score}/test")
        fill = PAPER["light"] if line.truncated else line.colour
        ax.plot(*_xy(test), **style, lw=1.5, marker="o", mfc=fill, markersize=3.0, zorder=3)
        known = [(x, n.low, n.high) for x, n in test if n.low is not None and n.high is not None]
        if known and not line.truncated:
            x, low, high = zip(*known, strict=True)
            ax.fill_between(x, low, high, color=line.colour, alpha=0.14, linewidth=0)
        _mark_chosen(ax, line, score, task)
        chance = line.points(f"floor/{score}/test")
        # The same for all values unless their galleries differ: then it must be seen.
        if len({round(number.value, 6) for _, number in chance}) > 1:
            ax.plot(*_xy(chance), color=MUTED["light"], lw=1.0, ls=DOTS)

    return draw


def _mark_chosen(ax: Any, line: Line, score: str, task: str) -> None:
    """A dot where the rule chose, as in the sweep's curves."""
    for level, numbers in line.levels:
        if task in level.chosen_for and f"{score}/test" in numbers:
            top = numbers[f"{score}/test"].value
            ax.plot(level.number, top, "o", color=line.colour, markersize=6, zorder=5)


def _drift(key: str) -> Callable[[Any, Line], None]:
    def draw(ax: Any, line: Line) -> None:
        if line.truncated:
            return
        dot = {"marker": "o", "markersize": 3.0}
        ax.plot(*_xy(line.points(f"{key}/before")), color=line.colour, lw=1.0, ls=DASHES, **dot)
        ax.plot(*_xy(line.points(f"{key}/after")), color=line.colour, lw=1.5, **dot)
        ax.plot(*_xy(line.points(f"{key}/expected")), color=MUTED["light"], lw=1.0, ls=DOTS)

    return draw


def _xy(points: Sequence[tuple[int, Number]]) -> tuple[Any, Any]:
    return np.array([x for x, _ in points]), np.array([number.value for _, number in points])


def _scale(ax: Any, ablation: Ablation) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    ax.set_xlabel(AXES[ablation.factor.name])
    ax.grid(axis="x", visible=False)
    if ablation.factor.name == "components":
        ax.set_xlim(left=0)
        return
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(sorted({one.number for one in ablation.levels})))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")


def _legend(
    ablation: Ablation, lines: Sequence[Line], panels: Sequence[Panel]
) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    def key(colour: str, **more: Any) -> Any:
        return Line2D([], [], color=colour, **more)

    muted = MUTED["light"]
    named = {line.name: key(line.colour, lw=1.5) for line in lines}
    named["test, interval over artists"] = key(muted, lw=1.5)
    named["validation"] = key(muted, lw=0.8, ls=DASHES)
    if any(level.chosen_for for level in ablation.levels):
        named["chosen on validation"] = key(muted, ls="none", marker="o", markersize=6)
    if any(line.truncated for line in lines):
        named["cut to this rank"] = key(muted, ls=DASHES, marker="o", mfc=PAPER["light"])
    if any(panel.keys[0].startswith("drift") for panel in panels):
        named["drift: before (broken) and after calibration"] = key(
            muted, lw=1.5, marker="o", markersize=3.0
        )
        named["by chance"] = key(muted, lw=1.0, ls=DOTS)
    return list(named.values()), list(named)
