"""What the figures show: which curves, which adapters, which methods, in which order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lorastyle.records import Role
from lorastyle.report.scores import TASKS, feature_entries, score_of, std_of
from lorastyle.report.shown import Comparison, CurvePanel, DriftPair, StrArray
from lorastyle.report.source import FIT, ReportSource
from lorastyle.report.words import REPRESENTATION_NAMES, SUB_NETWORK_NAMES, plain, space_name

MAX_DRIFT_ARTISTS = 10
"""The paper shows ten artists where marks crowd."""
DRIFT_COMPONENTS = ((0, 1), (2, 3))
"""Drift grows with the component: the first two show the least of it."""


def curve_panels(source: ReportSource) -> list[CurvePanel]:
    """One panel for each task and representation that has curves."""
    if source.curves.empty:
        return []
    panels = []
    for task, score in TASKS.items():
        for representation in source.curves["representation"].unique():
            curves = _curves(source.curves, representation, score)
            if not curves:
                continue
            entries = source.metrics.get(task, {})
            chosen = {
                sub_network: int(entry["n_components"])
                for sub_network in curves
                if (entry := entries.get(f"{representation}/{sub_network}"))
                and "n_components" in entry
            }
            name = REPRESENTATION_NAMES.get(representation, plain(representation))
            panels.append(CurvePanel(f"{task.capitalize()}, {name}", score, curves, chosen))
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


def _curves(table: pd.DataFrame, representation: str, score: str) -> dict[str, pd.DataFrame]:
    mean = f"{score}_mean" if f"{score}_mean" in table else score
    if mean not in table:
        return {}
    columns = {"n_components": "n_components", mean: "mean", f"{score}_std": "std"}
    curves: dict[str, pd.DataFrame] = {}
    for sub_network in SUB_NETWORK_NAMES:
        keep = (table["representation"] == representation) & (table["sub_network"] == sub_network)
        here = [name for name in columns if name in table]
        curve = table.loc[keep, here].rename(columns=columns).dropna(subset="mean")
        if len(curve):
            curves[sub_network] = curve.sort_values("n_components").reset_index(drop=True)
    return curves


def spread_artists(artists: StrArray, genres: StrArray) -> list[str]:
    """At most `MAX_DRIFT_ARTISTS` artists, from every genre in turn."""
    queues = {
        genre: sorted(np.unique(artists[genres == genre]), reverse=True)
        for genre in np.unique(genres)
    }
    chosen: list[str] = []
    while any(queues.values()) and len(chosen) < MAX_DRIFT_ARTISTS:
        chosen += [str(queue.pop()) for queue in queues.values() if queue]
    return chosen[:MAX_DRIFT_ARTISTS]
