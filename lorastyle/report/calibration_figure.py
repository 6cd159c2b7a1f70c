"""What calibration multiplies and adds, component by component. Paper, section 4.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorastyle.report.canvas import new_figure
from lorastyle.report.curve_figures import DASHES
from lorastyle.report.figures import percent_axis
from lorastyle.report.palette import MUTED, SUB_NETWORK_COLOURS
from lorastyle.report.scores import TASKS
from lorastyle.report.shown import FloatArray
from lorastyle.report.source import ReportSource

COLOURS = {
    "clustering": SUB_NETWORK_COLOURS["self_attention"]["light"],
    "retrieval": SUB_NETWORK_COLOURS["cross_attention"]["light"],
}
MARKERS = {"clustering": "o", "retrieval": "^"}
PARTS = ("scale", "shift_of_range")
NAMES = {"scale": "Scale s", "shift_of_range": "Shift t, in units of the range"}
MAX_MARKS = 30
WITHOUT = {"scale": 1.0, "shift_of_range": 0.0}
"""What leaves scores as they are."""
NEEDED = {"representation", "sub_network", "task", "calibration", "component", *PARTS}


@dataclass(frozen=True)
class CalibrationLine:
    """The calibration of one task's space. Shapes: all (k,), for the components that it has."""

    task: str
    space: str
    """`REPRESENTATION/SUB_NETWORK`."""
    component: NDArray[np.int64]
    scale: FloatArray
    shift_of_range: FloatArray
    """In units of the range of the fit scores, as the paper gives it."""
    chosen: int | None
    """How many components the task uses."""


def calibration_lines(source: ReportSource) -> list[CalibrationLine]:
    """The space that validation chose for each task; none where it is not calibrated."""
    table, lines = source.calibration, []
    if not set(table.columns) >= NEEDED:
        return []
    keys = table["representation"] + "/" + table["sub_network"]
    for task in TASKS:
        space = source.chosen_space(task)
        ours = table[(keys == space) & (table["task"] == task) & (table["calibration"] != "none")]
        if space is None or ours.empty:
            continue
        ours = ours.sort_values("component")
        lines.append(
            CalibrationLine(
                task=task,
                space=space,
                component=ours["component"].to_numpy(np.int64),
                scale=ours["scale"].to_numpy(np.float64),
                shift_of_range=ours["shift_of_range"].to_numpy(np.float64),
                chosen=source.metrics.get(task, {}).get(space, {}).get("n_components"),
            )
        )
    return lines


def calibration_curves(lines: Sequence[CalibrationLine]) -> Any:
    """Scale beside shift, a line a task."""
    from matplotlib.lines import Line2D

    figure, axes = new_figure(8.4, 3.4, 1, len(PARTS))
    for ax, part in zip(axes[0], PARTS, strict=True):
        draw_calibration(ax, lines, part)
        ax.set_title(NAMES[part])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    handles.append(Line2D([], [], color=MUTED["light"], linewidth=1.1, alpha=0.6))
    labels.append("beyond the components in use")
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
    return figure


def draw_calibration(ax: Any, lines: Sequence[CalibrationLine], part: str) -> None:
    """`scale` or `shift_of_range` by component; what the task does not use is drawn faint."""
    from matplotlib.ticker import MaxNLocator

    ax.axhline(WITHOUT[part], color=MUTED["light"], linewidth=1.0, linestyle=DASHES, zorder=1)
    for line in lines:
        colour, y = COLOURS[line.task], getattr(line, part)
        style: dict[str, Any] = {"color": colour, "linewidth": 1.6, "marker": MARKERS[line.task]}
        used = len(y) if line.chosen is None else line.chosen
        every = 1 + used // MAX_MARKS
        ax.plot(
            line.component[:used],
            y[:used],
            markersize=4,
            markevery=every,
            label=line.task,
            zorder=3,
            **style,
        )
        # From the last one used, so that the line has no gap.
        rest = slice(max(used - 1, 0), None)
        faint = {**style, "marker": "none", "linewidth": 1.1}
        ax.plot(line.component[rest], y[rest], alpha=0.45, zorder=2, **faint)
    ax.set_xlabel("component")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlim(left=0)
    ax.grid(axis="x", visible=False)
    if part == "shift_of_range":
        percent_axis(ax.yaxis)
