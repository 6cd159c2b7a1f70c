"""What the figures of a sweep show: which settings, and in which colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lorastyle.evaluation.swept import TRAINED, TRUNCATED
from lorastyle.report.palette import MUTED, sub_network_colours
from lorastyle.report.scores import TASKS
from lorastyle.report.shown import CurveLine, CurvePanel, RankLine, RankPanel
from lorastyle.report.sweep_results import (
    ERROR_COLUMNS,
    SCORE_COLUMNS,
    TASK_OF,
    Setting,
    SweepResults,
    Variant,
    leading,
    paper_order,
)
from lorastyle.report.sweep_words import CALIBRATION_NAMES, score_name, short_name, variant_name
from lorastyle.report.words import SUB_NETWORK_NAMES, representation_name

MAX_LINES = 8
"""Sub-networks with a colour in the curves: the paper's four, and the best others."""


class LineStyle(NamedTuple):
    """How a sub-network's line is told from others."""

    colour: str
    """`#rrggbb` of the light theme."""
    broken: bool


def curve_panels(swept: SweepResults, top_k: int | None) -> list[CurvePanel]:
    """What chose in clustering, then mAP and recall: each for the best way to compare.

    That is the rank, representation and calibration of the task's best setting.
    """
    shown = _shown(swept)
    panels = []
    for task in TASKS:
        winner = swept.winner(task)
        choice = None if winner is None else swept.choice(winner, task)
        if winner is None or choice is None:
            continue
        note = _note(swept, winner.variant, choice.calibration)
        scores = ("map", "recall_at_k") if task == "retrieval" else (swept.objective(task),)
        for score in scores:
            drawn = {
                name: line
                for name in swept.sub_networks
                for setting in [Setting(*winner.variant, name)]
                for style in [shown.get(name, LineStyle(MUTED["light"], False))]
                for line in [_line(swept, setting, choice.calibration, score, style)]
                if line is not None
            }
            if drawn:
                lines = [drawn[name] for name in shown if name in drawn]
                others = [line for name, line in drawn.items() if name not in shown]
                label = f"validation {score_name(score, top_k)}"
                panels.append(CurvePanel(task.capitalize(), label, lines, note, others))
    return panels


def _note(swept: SweepResults, variant: Variant, calibration: str) -> str:
    """Of which adapters a panel is; calibration only where several forms were tried."""
    name = variant_name(swept, variant)
    form = CALIBRATION_NAMES.get(calibration, calibration)
    return f"{name}, {form}" if len(swept.calibrations) > 1 else name


def line_styles(sub_networks: Sequence[str]) -> dict[str, LineStyle]:
    """A colour for each, and whether its line must be broken: more have no colours of their own."""
    colours = sub_network_colours(sub_networks)
    styles: dict[str, LineStyle] = {}
    for name in sub_networks:
        colour = colours[name]["light"]
        taken = any(colour == style.colour for style in styles.values())
        styles[name] = LineStyle(colour, taken)
    return styles


def _shown(swept: SweepResults) -> dict[str, LineStyle]:
    """Sub-networks that have a line of their own; the paper's four first, then the best others."""
    winners = {winner.variant for task in TASKS if (winner := swept.winner(task)) is not None}
    rivals = [one for one in swept.settings if one.variant in winners]
    names = paper_order([one.sub_network for one in leading(swept, rivals)])
    return line_styles(names[:MAX_LINES])


def _line(
    swept: SweepResults, setting: Setting, calibration: str, score: str, style: LineStyle
) -> CurveLine | None:
    column, error = SCORE_COLUMNS[score], ERROR_COLUMNS[score]
    curve = swept.curve(setting, calibration).reindex(columns=["n_components", column, error])
    curve = curve.dropna(subset=[column])
    if curve.empty:
        return None
    choice = swept.choice(setting, TASK_OF[score])
    # What was chosen with another calibration lies on another curve.
    here = choice if choice is not None and choice.calibration == calibration else None
    # Recall and mAP share a choice; the largest score that it passed over is that of one of them.
    ringed = here is not None and score == swept.objective(TASK_OF[score])
    return CurveLine(
        name=short_name(setting.sub_network),
        colour=style.colour,
        x=curve["n_components"].to_numpy(np.int64),
        y=curve[column].to_numpy(np.float64),
        spread=curve[error].fillna(0.0).to_numpy(np.float64),
        chosen=here.n_components if here else None,
        argmax=here.argmax if here and ringed and here.argmax != here.n_components else None,
        broken=style.broken,
    )


def rank_panels(swept: SweepResults, top_k: int | None = None) -> list[RankPanel]:
    """What chose in each task, at the chosen count, by rank; none where there is one rank only."""
    ranks = {variant.rank for variant in swept.variants}
    representation = _most_ranked(swept)
    if len(ranks) < 2 or representation is None:
        return []
    names = _ranked_sub_networks(swept)
    colours = sub_network_colours(names)
    panels = []
    for task in TASKS:
        score = swept.objective(task)
        found = [
            line
            for name in names
            for method in (TRAINED, TRUNCATED)
            for line in [
                _rank_line(swept, representation, name, method, task, colours[name]["light"])
            ]
            if line is not None
        ]
        if found:
            label = f"validation {score_name(score, top_k)}"
            note = representation_name(representation)
            panels.append(RankPanel(task.capitalize(), label, found, note))
    return panels


def _most_ranked(swept: SweepResults) -> str | None:
    """The representation tried at most ranks; among equals the one that won, clustering first."""
    tried = [variant.representation for variant in swept.variants]
    winners = [one.representation for task in TASKS if (one := swept.winner(task)) is not None]
    ordered = list(dict.fromkeys([*winners, *tried]))
    return max(ordered, key=tried.count, default=None)


def _ranked_sub_networks(swept: SweepResults) -> list[str]:
    """The paper's four, or where none was swept the best four; and those that won."""
    four = [name for name in SUB_NETWORK_NAMES if name in swept.sub_networks]
    best = dict.fromkeys(one.sub_network for one in leading(swept, swept.settings))
    winners = [one.sub_network for task in TASKS if (one := swept.winner(task)) is not None]
    return list(dict.fromkeys([*(four or list(best)[: len(SUB_NETWORK_NAMES)]), *winners]))


def _rank_line(
    swept: SweepResults, representation: str, name: str, method: str, task: str, colour: str
) -> RankLine | None:
    settings = [Setting(rank, method, representation, name) for rank in swept.ranks(method)]
    if method == TRUNCATED and settings and swept.own_rank is not None:
        # Cut to its own rank an update is itself: where the dashes set out from.
        settings.append(Setting(swept.own_rank, TRAINED, representation, name))
    score = swept.objective(task)
    points = [
        (setting.rank, value, choice.error(score) or 0.0)
        for setting in settings
        if (choice := swept.choice(setting, task)) is not None
        and (value := choice.score(score)) is not None
    ]
    if not points or (method == TRUNCATED and len(points) < 2):
        return None
    ranks, values, errors = (np.array(column) for column in zip(*sorted(points), strict=True))
    truncated = method == TRUNCATED
    return RankLine(short_name(name), colour, ranks, values, errors, truncated)
