"""What the figures show: which curves, which adapters, which methods, in which order."""

from __future__ import annotations

import numpy as np

from lorastyle.records import Role
from lorastyle.report.scores import TASKS, feature_entries, score_of, std_of
from lorastyle.report.shown import NO_LABEL, Comparison, CurveLine, CurvePanel, DriftPair, StrArray
from lorastyle.report.source import CALIBRATION, FIT, ReportSource
from lorastyle.report.sweep_panels import line_styles
from lorastyle.report.sweep_results import paper_order
from lorastyle.report.sweep_words import short_name
from lorastyle.report.words import SCORE_NAMES, plain, representation_name, space_name

MAX_DRIFT_ARTISTS = 10
"""The paper shows ten artists where marks crowd."""
DRIFT_KINDS = (Role.TEST.value, CALIBRATION)
"""Validation adapters drift as test ones do; drawn as well they would hide these."""


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
    """Test and calibration adapters before and after calibration; none without test ones.

    On the first two components and on the last two that clustering uses.
    """
    key = source.shown_space or ""
    space = source.spaces.get(key)
    if space is None or space.uncalibrated is None:
        return []
    entry = source.metrics.get("clustering", {}).get(key, {})
    pairs = []
    for x, y in drift_components(entry.get("n_components"), space.n_components):
        after = space.points(x=x, y=y).of(*DRIFT_KINDS)
        before = space.points(calibrated=False, x=x, y=y).of(*DRIFT_KINDS)
        if np.array_equal(before.xy, after.xy):
            continue
        fitted = space.points(x=x, y=y).of(FIT)
        # Without a name, or where the fit has none by the artist, there is no centroid.
        drifting = np.isin(after.artists, np.setdiff1d(fitted.artists, [NO_LABEL]))
        drifting &= after.kinds == Role.TEST.value
        shown = spread_artists(after.artists[drifting], after.genres[drifting])
        if not shown:
            continue
        title = f"Components {x + 1} and {y + 1}"
        pairs.append(DriftPair(title, *(part.by(shown) for part in (fitted, before, after))))
    return pairs


def drift_components(used: int | None, kept: int) -> list[tuple[int, int]]:
    """The first two components, and the last two of those that are used and have scores kept.

    Drift grows with the component: the first two show the least of it.

    >>> drift_components(used=69, kept=10), drift_components(used=3, kept=10)
    ([(0, 1), (8, 9)], [(0, 1)])
    """
    last = kept if used is None else min(used, kept)
    return [(0, 1)][: kept // 2] + ([(last - 2, last - 1)] if last >= 4 else [])


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
