"""The paper's four scenarios: what images tell where the originals are at hand, and where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lorastyle.evaluation.scenarios import SCENARIOS
from lorastyle.report.canvas import css_variables
from lorastyle.report.markup import Markup, tag
from lorastyle.report.panel import drawn_panel
from lorastyle.report.scenario_figure import DRAWN_SCORES, colours_of, draw_scenarios
from lorastyle.report.scenario_scores import CHANCE, ScenarioMethod, scenario_methods
from lorastyle.report.source import ReportSource
from lorastyle.report.words import SCORE_NAMES, percent

SCORE = "map"
BARS_SIZE = (4.3, 3.0)
"""In inches."""
NOT_SCORED = (
    "Only the scenario Orig+Orig was scored here. For the paper's other three, where the originals "
    "are not at hand, adapters have to generate images: set "
)


def scenarios(source: ReportSource) -> Markup | None:
    """Bars of test mAP and Recall@k by scenario, and the table of mAP.

    A sentence instead where images were scored but none were generated; None without either.
    """
    methods = scenario_methods(source)
    if not methods:
        return _not_scored(source)
    headings = [tag("th", name, scope="col") for name in SCENARIOS.values()]
    head = tag("thead", tag("tr", tag("th", "Method", scope="col", class_="method"), headings))
    rows = [_row(method) for method in methods]
    return tag(
        "div",
        tag("h3", "With the originals, and without"),
        _key(methods, css_variables(source.palette)),
        tag("div", _panels(source, methods), class_="figures"),
        tag("div", tag("table", head, tag("tbody", rows)), class_="table", tabindex=0),
        tag("p", _note(source), class_="caption"),
    )


def _not_scored(source: ReportSource) -> Markup | None:
    if not source.metrics.get("features"):
        return None
    setting = tag("code", "evaluation.generated=true")
    return tag("p", NOT_SCORED, setting, " and evaluate again.", class_="caption")


def _panels(source: ReportSource, methods: Sequence[ScenarioMethod]) -> list[Markup]:
    variables = css_variables(source.palette)
    return [
        drawn_panel(
            partial(draw_scenarios, methods=methods, score=score),
            f"scenarios-{score}",
            f"Test {SCORE_NAMES[score]} by scenario",
            variables,
            size=BARS_SIZE,
        )
        for score in DRAWN_SCORES
    ]


def _key(methods: Sequence[ScenarioMethod], variables: Mapping[str, str]) -> Markup:
    """The methods' colours and names; chance is a dashed line."""
    items, colours = [], colours_of(methods)
    for method in methods:
        if method.kind == CHANCE:
            style = "height:0;background:none;border-top:1.5px dashed var(--ink)"
        else:
            style = f"background:var({variables[colours[method.name]]});height:9px"
        items.append(tag("li", tag("i", style=style), method.name))
    return tag("ul", items, class_="lines")


def _row(method: ScenarioMethod) -> Markup:
    cells = [_cell(scores) for scores in method.scores]
    return tag("tr", tag("th", method.name, scope="row"), cells, class_=method.kind)


def _cell(scores: Mapping[str, Any] | None) -> Markup:
    value = (scores or {}).get(SCORE)
    if scores is None or value is None:
        return tag("td", "–", class_="absent")
    ends = scores.get("ci", {}).get(SCORE)
    spread = f" [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]" if ends else None
    return tag("td", percent(value), tag("span", spread, class_="std") if spread else None)


def _note(source: ReportSource) -> str:
    level = source.metrics.get("protocol", {}).get("interval", {}).get("level")
    brackets = (
        f" In brackets, and as whiskers: intervals of {100 * level:.0f} %, over artists."
        if level
        else ""
    )
    return (
        "Test mAP in percent, [gallery]+[query]: features of the images that adapters were trained "
        "on (Orig), or of images that they generated with those images' captions as prompts (Gen), "
        f"which is all there is where the originals are not. Weights need neither.{brackets}"
    )
