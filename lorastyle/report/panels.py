"""What the figures show: which curves, which adapters, which methods, in which order."""

from __future__ import annotations

import numpy as np

from lorastyle.records import Role
from lorastyle.report.scores import TASKS, feature_entries, score_of, std_of
from lorastyle.report.shown import Comparison, CurveLine, CurvePanel, DriftPair, StrArray
from lorastyle.report.source import FIT, ReportSource
from lorastyle.report.sweep_panels import line_styles
from lorastyle.report.sweep_results import paper_order
from lorastyle.report.sweep_words import short_name
from lorastyle.report.words import SCORE_NAMES, plain, representation_name, space_name

MAX_DRIFT_ARTISTS = 10
"""The paper shows ten artists where marks crowd."""
DRIFT_COMPONENTS = ((0, 1), (2, 3))
"""Drift grows with the component: the first two show the least of it."""


def curve_panels(source: ReportSource) -> list[CurvePanel]:
    """One panel for each task and representation that the evaluation has curves of."""
    if source.curves.empty:
        return []
    panels = []
    for task, score in TASKS.items():
        for representation in source.curves["representation"].unique():
            lines = _lines(source, str(representation), task, score)
            if lines:
                title = f"{task.capitalize()}, {representation_name(str(representation))}"
                panels.append(CurvePanel(title, SCORE_NAMES[score], lines))
    return panels


def drift_pairs(source: ReportSource) -> list[DriftPair]:
    """Test adapters before and after calibration: components 1 and 2, then 3 and 4."""
    space = source.spaces.get(source.shown_space or "")
    if space is None or space.uncalibrated is None:
        return []
    pairs = []
    for x, y in DRIFT_COMPONENTS:
        if y >= space.n_components:
            continue
        after = space.points(x=x, y=y).of(Role.TEST.value)
        before = space.points(calibrated=False, x=x, y=y).of(Role.TEST.value)
        if not len(after.xy) or np.array_equal(before.xy, after.xy):
            continue
        fitted = space.points(x=x, y=y).of(FIT)
        # A held-out adapter whose artist has none in the fit has no centroid to drift from.
        known = np.isin(after.artists, fitted.artists)
        shown = spread_artists(after.artists[known], after.genres[known])
        title = f"Components {x + 1} and {y + 1}"
        pairs.append(DriftPair(title, *(part.by(shown) for part in (fitted, before, after))))
    return pairs


def comparisons(source: ReportSource, task: str) -> list[Comparison]:
    """Test scores of a task: every style space, then every image feature, best first."""
    score = TASKS[task]
    spaces = [
        Comparison(space_name(key), value, std_of(entry, "test", score), before, is_adapter=True)
        for key, entry in source.metrics.get(task, {}).items()
        if (value := score_of(entry, "test", score)) is not None
        for before in [score_of(entry.get("uncalibrated"), "test", score)]
    ]
    features = [
        Comparison(plain(name), value, std_of(entry, "test", score))
        for name, entry in feature_entries(source.metrics, task).items()
        if (value := score_of(entry, "test", score)) is not None
    ]
    return [*_best_first(spaces), *_best_first(features)]


def _best_first(rows: list[Comparison]) -> list[Comparison]:
    return sorted(rows, key=lambda row: (-row.score, row.name))


def _lines(source: ReportSource, representation: str, task: str, score: str) -> list[CurveLine]:
    table = source.curves
    mean = f"{score}_mean" if f"{score}_mean" in table else score
    if mean not in table:
        return []
    ours = table[table["representation"] == representation].dropna(subset=[mean])
    styles = line_styles(paper_order([str(name) for name in ours["sub_network"].unique()]))
    lines = []
    for name, style in styles.items():
        curve = ours[ours["sub_network"] == name].sort_values("n_components")
        spread = curve.reindex(columns=[f"{score}_std"]).fillna(0.0)
        entry = source.metrics.get(task, {}).get(f"{representation}/{name}") or {}
        lines.append(
            CurveLine(
                name=short_name(name),
                colour=style.colour,
                x=curve["n_components"].to_numpy(np.int64),
                y=curve[mean].to_numpy(np.float64),
                spread=spread.to_numpy(np.float64)[:, 0],
                chosen=entry.get("n_components"),
                broken=style.broken,
            )
        )
    return lines


def spread_artists(artists: StrArray, genres: StrArray, most: int = MAX_DRIFT_ARTISTS) -> list[str]:
    """At most `most` artists, from every genre in turn."""
    queues = {
        genre: sorted(np.unique(artists[genres == genre]), reverse=True)
        for genre in np.unique(genres)
    }
    chosen: list[str] = []
    while any(queues.values()) and len(chosen) < most:
        chosen += [str(queue.pop()) for queue in queues.values() if queue]
    return chosen[:most]
