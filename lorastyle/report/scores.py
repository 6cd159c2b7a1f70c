"""Reading `metrics.json`: scores by name, and what validation chose.

Plain dictionaries only, so that a finished run is answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Metrics = Mapping[str, Any]
TASKS: Mapping[str, str] = {"clustering": "ari", "retrieval": "map"}
"""The score that chooses in each task."""


def best_space(metrics: Metrics, task: str) -> str | None:
    """The style space with the best validation score of a task, or None without scores."""
    return best_key(metrics.get(task, {}), "val", TASKS[task])


def chosen_feature(metrics: Metrics, task: str) -> str | None:
    """The image feature with the best validation score: chosen as fairly as the weights."""
    return best_key(feature_entries(metrics, task), "val", TASKS[task])


def feature_entries(metrics: Metrics, task: str) -> dict[str, Metrics]:
    """Image features in a task, in the shape of the style spaces' entries.

    Retrieval by images compares originals with originals: no image is generated.
    """
    entries: dict[str, Metrics] = {}
    for name, feature in metrics.get("features", {}).items():
        entry = feature.get(task) or {}
        if task == "retrieval":
            entry = entry.get("orig_orig") or {}
        if entry:
            entries[name] = entry
    return entries


def best_key(entries: Mapping[str, Metrics], split: str, score: str) -> str | None:
    """The entry with the largest score on a split; among equals the first, as configured.

    >>> best_key({"b": {"val": {"map": 0.5}}, "a": {"val": {"map": 0.5}}}, "val", "map")
    'b'
    """
    scored = {
        key: value
        for key, entry in entries.items()
        if (value := score_of(entry, split, score)) is not None
    }
    return max(scored, key=lambda key: scored[key], default=None)


def score_of(entry: Mapping[str, Any] | None, split: str, score: str) -> float | None:
    """A score of an entry of the metrics; a mean over seeds counts as the score."""
    value = ((entry or {}).get(split) or {}).get(score)
    if isinstance(value, Mapping):
        value = value.get("mean")
    return None if value is None else float(value)


def std_of(entry: Mapping[str, Any] | None, split: str, score: str) -> float | None:
    """The standard deviation over seeds, where the score is a mean."""
    value = ((entry or {}).get(split) or {}).get(score)
    std = value.get("std") if isinstance(value, Mapping) else None
    return None if std is None else float(std)
