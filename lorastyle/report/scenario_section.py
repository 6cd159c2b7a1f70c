"""The paper's four scenarios: what images tell where the originals are at hand, and where not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorastyle.report.markup import Markup, tag
from lorastyle.report.source import ReportSource
from lorastyle.report.words import percent, plain, space_name

SCENARIOS: Mapping[str, str] = {
    "orig_orig": "Orig+Orig",
    "orig_gen": "Orig+Gen",
    "gen_orig": "Gen+Orig",
    "gen_gen": "Gen+Gen",
}
"""Section 4.2 of the paper: [gallery]+[query]."""
SCORE = "map"


def scenarios(source: ReportSource) -> Markup | None:
    """A table of test mAP by scenario; None where no images were generated."""
    features = {
        name: entry.get("retrieval", {})
        for name, entry in source.metrics.get("features", {}).items()
    }
    if not any("gen_gen" in retrieval for retrieval in features.values()):
        return None
    chosen = source.chosen_space("retrieval") or ""
    ours = source.metrics.get("retrieval", {}).get(chosen, {}).get("test")
    rows = [
        _row(plain(name), [retrieval.get(key, {}).get("test") for key in SCENARIOS], "feature")
        for name, retrieval in features.items()
    ]
    rows.append(_row(space_name(chosen), [ours] * len(SCENARIOS), "ours chosen"))
    floor = source.metrics.get("floor", {}).get("retrieval", {}).get("test")
    if floor:
        rows.append(_row("a random ranking", [floor] * len(SCENARIOS), "aside"))
    headings = [tag("th", name, scope="col") for name in SCENARIOS.values()]
    head = tag("thead", tag("tr", tag("th", "Method", scope="col", class_="method"), headings))
    return tag(
        "div",
        tag("h3", "With the originals, and without"),
        tag("div", tag("table", head, tag("tbody", rows)), class_="table", tabindex=0),
        tag("p", _note(source), class_="caption"),
    )


def _row(name: str, scores: list[Mapping[str, Any] | None], kind: str) -> Markup:
    return tag("tr", tag("th", name, scope="row"), [_cell(score) for score in scores], class_=kind)


def _cell(scores: Mapping[str, Any] | None) -> Markup:
    value = (scores or {}).get(SCORE)
    if scores is None or value is None:
        return tag("td", "–", class_="absent")
    ends = scores.get("ci", {}).get(SCORE)
    spread = f" [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]" if ends else None
    return tag("td", percent(value), tag("span", spread, class_="std") if spread else None)


def _note(source: ReportSource) -> str:
    level = source.metrics.get("protocol", {}).get("interval", {}).get("level")
    brackets = f" In brackets: intervals of {100 * level:.0f} %, over artists." if level else ""
    return (
        "Test mAP in percent, [gallery]+[query]: features of the images that adapters were trained "
        "on (Orig), or of images that they generated with those images' captions as prompts (Gen), "
        f"which is all there is where the originals are not. Weights need neither.{brackets}"
    )
