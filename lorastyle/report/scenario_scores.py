"""Test scores of every method in the paper's four scenarios, from the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorastyle.evaluation.scenarios import SCENARIOS
from lorastyle.report.source import ReportSource
from lorastyle.report.words import plain, space_name

FEATURE, OURS, CHANCE = "feature", "ours chosen", "aside"


@dataclass(frozen=True)
class ScenarioMethod:
    """A method's test scores, one entry a scenario; None where it was not scored."""

    name: str
    kind: str
    """`FEATURE`, `OURS` or `CHANCE`; the class of its line in the table."""
    scores: tuple[Mapping[str, Any] | None, ...]


def scenario_methods(source: ReportSource) -> list[ScenarioMethod]:
    """Image features, the chosen style space, chance; none where no images were generated.

    Weights and chance ask for no image, so their scores are the same in all four.
    """
    features = {
        name: entry.get("retrieval", {})
        for name, entry in source.metrics.get("features", {}).items()
    }
    if not any("gen_gen" in retrieval for retrieval in features.values()):
        return []
    methods = [
        ScenarioMethod(
            plain(name),
            FEATURE,
            tuple(retrieval.get(key, {}).get("test") for key in SCENARIOS),
        )
        for name, retrieval in features.items()
    ]
    chosen = source.chosen_space("retrieval") or ""
    ours = source.metrics.get("retrieval", {}).get(chosen, {}).get("test")
    methods.append(ScenarioMethod(space_name(chosen), OURS, (ours,) * len(SCENARIOS)))
    floor = source.metrics.get("floor", {}).get("retrieval", {}).get("test")
    if floor:
        methods.append(ScenarioMethod("a random ranking", CHANCE, (floor,) * len(SCENARIOS)))
    return methods
