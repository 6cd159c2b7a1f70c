"""Figure 7 of the paper: retrieval by scenario, a bar a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lorastyle.evaluation.scenarios import SCENARIOS
from lorastyle.report.canvas import new_figure
from lorastyle.report.figures import percent_axis
from lorastyle.report.palette import (
    ACCENT,
    INK,
    MUTED,
    OTHER_COLOURS,
    PAPER,
    SUB_NETWORK_COLOURS,
)
from lorastyle.report.scenario_scores import CHANCE, OURS, ScenarioMethod
from lorastyle.report.words import SCORE_NAMES

DRAWN_SCORES = ("map", "recall_at_k")
GROUP = 0.84
"""Width of the bars of a scenario together; the scenarios are 1 apart."""
FEATURE_COLOURS = tuple(
    colour["light"]
    for colour in (
        SUB_NETWORK_COLOURS["self_attention"],
        SUB_NETWORK_COLOURS["cross_attention"],
        *OTHER_COLOURS,
        MUTED,
    )
)
"""Beyond these the colours repeat; bars stand in the order of the legend."""


def scenario_bars(methods: Sequence[ScenarioMethod], top_k: int | None) -> Any:
    """Test mAP beside Recall@k; `top_k` is the k."""
    figure, axes = new_figure(9.0, 3.5, 1, len(DRAWN_SCORES))
    for ax, score in zip(axes[0], DRAWN_SCORES, strict=True):
        draw_scenarios(ax, methods, score)
        name = SCORE_NAMES[score]
        ax.set_title(name if top_k is None else name.replace("@k", f"@{top_k}"))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    # The library puts lines before bars.
    order = [method.name for method in methods if method.name in named]
    figure.legend([named[name] for name in order], order, loc="outside upper left", ncols=5)
    return figure


def draw_scenarios(ax: Any, methods: Sequence[ScenarioMethod], score: str) -> None:
    """Bars in groups of a scenario, intervals as whiskers, chance as a dashed line."""
    bars = [method for method in methods if method.kind != CHANCE]
    width = GROUP / len(bars)
    colours = colours_of(methods)
    for place, method in enumerate(bars):
        x = np.arange(len(SCENARIOS)) + (place - (len(bars) - 1) / 2) * width
        _draw_bars(ax, x, width, method, score, colours[method.name])
    for method in methods:
        if method.kind == CHANCE and (value := (method.scores[0] or {}).get(score)) is not None:
            style = {"color": INK["light"], "linestyle": (0, (3, 2)), "linewidth": 1.0}
            ax.axhline(value, label=method.name, zorder=4, **style)
    ax.set_xticks(range(len(SCENARIOS)), SCENARIOS.values())
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.5, len(SCENARIOS) - 0.5)
    ax.set_ylim(0.0, 1.0)
    percent_axis(ax.yaxis)
    ax.grid(axis="x", visible=False)


def colours_of(methods: Sequence[ScenarioMethod]) -> dict[str, str]:
    """`#rrggbb` of the light theme by method: the accent for weights, chance has none."""
    colours: dict[str, str] = {}
    for method in methods:
        if method.kind == OURS:
            colours[method.name] = ACCENT["light"]
        elif method.kind != CHANCE:
            colours[method.name] = FEATURE_COLOURS[len(colours) % len(FEATURE_COLOURS)]
    return colours


def _draw_bars(
    ax: Any, x: Any, width: float, method: ScenarioMethod, score: str, colour: str
) -> None:
    found = [scores if scores and score in scores else None for scores in method.scores]
    heights = [np.nan if scores is None else scores[score] for scores in found]
    edge = {"edgecolor": PAPER["light"], "linewidth": 0.8}
    ax.bar(x, heights, width, color=colour, label=method.name, zorder=2, **edge)
    for place, scores in zip(x, found, strict=True):
        ends = _interval(scores, score)
        if scores is not None and ends is not None:
            ax.plot([place, place], ends, color=INK["light"], linewidth=1.0, zorder=3)


def _interval(scores: Mapping[str, Any] | None, score: str) -> Sequence[float] | None:
    ends = (scores or {}).get("ci", {}).get(score)
    return None if ends is None else [float(end) for end in ends]
