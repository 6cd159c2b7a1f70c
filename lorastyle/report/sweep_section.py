"""The section of the page that shows a sweep: curves, ranks, and the ablation table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lorastyle.report.ablation import (
    has_paper,
    legend,
    paper_score,
    sentences,
    shown_settings,
)
from lorastyle.report.canvas import css_variables
from lorastyle.report.curve_figures import draw_curves, draw_ranks
from lorastyle.report.markup import Markup, tag
from lorastyle.report.panel import drawn_panel
from lorastyle.report.scores import TASKS
from lorastyle.report.sections import section
from lorastyle.report.shown import CurveLine, CurvePanel, RankPanel
from lorastyle.report.source import ReportSource
from lorastyle.report.sweep_panels import curve_panels, rank_panels
from lorastyle.report.sweep_results import Choice, Setting, SweepResults, Variant
from lorastyle.report.sweep_words import (
    count_text,
    score_name,
    share_text,
    short_name,
    variant_name,
)
from lorastyle.report.words import percent

CURVE_SIZE, RANK_SIZE = (3.3, 2.7), (4.3, 3.1)
"""In inches; the page scales panels, three or two a row, so this sets the size of their text."""


def sweep_section(source: ReportSource) -> Markup | None:
    """Supplementary figures 3 and 4 of the paper, and its ablation of sub-networks."""
    if source.swept is None:
        return None
    swept, top_k = source.swept, source.top_k
    variables = css_variables(source.palette)
    by_count, by_rank = curve_panels(swept, top_k), rank_panels(swept, top_k)
    tried, rule, *chosen = sentences(swept)
    return section(
        "sweep",
        "Which weights, and how many components",
        tag("p", f"{tried} {rule}"),
        *(tag("p", sentence) for sentence in chosen),
        curve_key(by_count, variables),
        _drawn(by_count, draw_curves, CURVE_SIZE, variables),
        tag("p", _reading(by_count), class_="caption") if by_count else None,
        _rank_part(by_rank, variables),
        tag("h3", "Every setting at its chosen count"),
        ablation_table(swept, top_k),
        tag("p", " ".join(legend(swept)), _forms(swept), class_="caption"),
        _more(swept),
    )


def curve_key(panels: Sequence[CurvePanel], variables: Mapping[str, str]) -> Markup | None:
    """The lines of all panels: their colours and names."""
    lines = {line.name: line for panel in panels for line in panel.lines}
    items = [
        tag("li", tag("i", style=_swatch(line, variables)), line.name) for line in lines.values()
    ]
    n_others = max((len(panel.others) for panel in panels), default=0)
    if n_others:
        grey = tag("i", style="background:var(--muted);opacity:0.5;height:1px")
        items.append(tag("li", grey, f"{n_others} others" if n_others > 1 else "1 other"))
    return tag("ul", items, class_="lines") if items else None


def ablation_table(swept: SweepResults, top_k: int | None) -> Markup:
    """The same lines as in `ablation.md`, below the rank and representation they share."""
    settings = shown_settings(swept)
    variants = list(dict.fromkeys(setting.variant for setting in settings))
    n_columns = 9 + has_paper(swept)
    body: list[Markup] = []
    for variant in variants:
        body.append(_group(swept, variant, n_columns))
        body += [_row(swept, one) for one in settings if one.variant == variant]
    head = tag("thead", _groups(swept), _headings(swept, top_k))
    table = tag("table", head, tag("tbody", body))
    return tag("div", table, class_="table wide", tabindex=0)


def usual_calibration(swept: SweepResults) -> str | None:
    """The form of calibration that most settings were chosen with."""
    forms = [choice.calibration for choice in swept.choices]
    return max(swept.calibrations, key=forms.count, default=None)


def _rank_part(panels: Sequence[RankPanel], variables: Mapping[str, str]) -> Markup | None:
    if not panels:
        return None
    lines = {line.name: line for panel in panels for line in panel.lines}
    items = [
        tag("li", tag("i", style=f"background:var({variables[line.colour]})"), line.name)
        for line in lines.values()
    ]
    cut = any(line.truncated for panel in panels for line in panel.lines)
    how = "Solid: trained at that rank. " if cut else ""
    dashes = "Dashed, hollow: the run's own updates, cut to it by SVD; nothing was trained. "
    return tag(
        "div",
        tag("h3", "Does a smaller rank do?"),
        tag("ul", items, class_="lines"),
        _drawn(panels, draw_ranks, RANK_SIZE, variables),
        tag(
            "p",
            f"Validation scores at the chosen counts. {how}{dashes if cut else ''}"
            "Bars are one standard error.",
            class_="caption",
        ),
    )


def _drawn(
    panels: Sequence[Any],
    draw: Callable[..., None],
    size: tuple[float, float],
    variables: Mapping[str, str],
) -> Markup | None:
    figures = [
        drawn_panel(
            partial(draw, panel=panel),
            f"{draw.__name__}-{number}",
            panel.title,
            variables,
            label=f"{panel.title}, {panel.note}: {panel.score}",
            note=panel.note,
            size=size,
        )
        for number, panel in enumerate(panels)
    ]
    return tag("div", figures, class_="figures panels") if figures else None


def _reading(panels: Sequence[CurvePanel]) -> str:
    ringed = any(line.argmax for panel in panels for line in panel.lines)
    text = "Dashed line and dot: the chosen count. "
    if ringed:
        text += "Ring: the largest score, where that is another count. "
    return f"{text}Band: one standard error; where lines crowd, of the highest line only."


def _swatch(line: CurveLine, variables: Mapping[str, str]) -> str:
    colour = f"var({variables[line.colour]})"
    if line.broken:
        return f"background:repeating-linear-gradient(90deg,{colour} 0 7px,transparent 7px 10px)"
    return f"background:{colour}"


def _group(swept: SweepResults, variant: Variant, n_columns: int) -> Markup:
    title = variant_name(swept, variant)
    return tag(
        "tr", tag("th", title, scope="rowgroup"), tag("td", colspan=n_columns - 1), class_="group"
    )


def _groups(swept: SweepResults) -> Markup:
    return tag(
        "tr",
        tag("td", class_="method"),
        tag("td"),
        tag("th", "Clustering", colspan=4 + has_paper(swept), scope="colgroup"),
        tag("th", "Retrieval", colspan=3, scope="colgroup"),
    )


def _headings(swept: SweepResults, top_k: int | None) -> Markup:
    clustering = ["PCs", "ARI", "NMI", "train ARI", *(["paper"] * has_paper(swept))]
    names = ["share", *clustering, "PCs", "mAP", score_name("recall_at_k", top_k)]
    first = tag("th", "Sub-network", scope="col", class_="method")
    return tag("tr", first, [tag("th", name, scope="col") for name in names])


def _row(swept: SweepResults, setting: Setting) -> Markup:
    clustering, retrieval = (swept.choice(setting, task) for task in TASKS)
    best = [task for task in TASKS if swept.winner(task) == setting]
    badges = [
        tag("span", f"best {score_name(swept.objective(task), None)}", class_="badge")
        for task in best
    ]
    paper = paper_score(setting)
    name = tag(
        "th",
        short_name(setting.sub_network),
        badges,
        scope="row",
        title=setting.sub_network,
    )
    return tag(
        "tr",
        name,
        tag("td", share_text(swept.shares[setting])),
        _cells(swept, clustering, ("ari", "nmi", "train_ari"), bold="clustering" in best),
        tag("td", "" if paper is None else percent(paper)) if has_paper(swept) else None,
        _cells(swept, retrieval, ("map", "recall_at_k"), bold="retrieval" in best),
        class_="chosen" if best else None,
    )


def _cells(
    swept: SweepResults, choice: Choice | None, scores: Sequence[str], *, bold: bool
) -> list[Markup]:
    odd = choice is not None and choice.calibration != usual_calibration(swept)
    form = tag("span", f" {choice.calibration}", class_="std") if choice and odd else None
    count = tag("td", count_text(choice), form)
    return [count, *(_score(choice, one, bold) for one in scores)]


def _score(choice: Choice | None, score: str, bold: bool) -> Markup:
    value = None if choice is None else choice.score(score)
    if choice is None or value is None:
        return tag("td", "–", class_="absent")
    spread = choice.spread(score)
    beside = tag("span", f" ± {100 * spread:.1f}", class_="std") if spread is not None else None
    return tag("td", percent(value), beside, class_="best" if bold else None)


def _forms(swept: SweepResults) -> str | None:
    if len(swept.calibrations) < 2:
        return None
    return f" Calibration is {usual_calibration(swept)} where no other stands beside a count."


def _more(swept: SweepResults) -> Markup | None:
    n_more = len(swept.settings) - len(shown_settings(swept))
    if not n_more:
        return None
    where = tag("code", "sweep/ablation.csv")
    return tag("p", f"{n_more} more settings are in ", where, ".", class_="caption")
