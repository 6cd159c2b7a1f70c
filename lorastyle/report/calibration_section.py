"""The section on drift and its correction: figures 5 and 8 of the paper, and section 4.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lorastyle.report.calibration_figure import (
    COLOURS,
    NAMES,
    calibration_lines,
    draw_calibration,
)
from lorastyle.report.canvas import css_variables
from lorastyle.report.drift_figure import DRIFT_MARKS, draw_drift
from lorastyle.report.markup import Markup, tag
from lorastyle.report.panel import drawn_panel
from lorastyle.report.panels import drift_pairs
from lorastyle.report.sections import section
from lorastyle.report.shown import DriftPair
from lorastyle.report.source import ReportSource
from lorastyle.report.words import KIND_NAMES, plain, space_name

DRIFT_LEAD = (
    "PCA projects adapters it has not seen towards the middle. Calibration, fitted on train images "
    "only, scales each component by s and shifts it by t."
)
DRIFT_NOTE = (
    "Each test adapter is tied to its artist's centroid: the shorter the line, the less drift. "
    "Calibration adapters were trained on train images, test adapters on others: s and t undo what "
    "the projection does, not what other images do. Validation adapters are not drawn. The space "
    "is that of the map, {space}; panels side by side have one scale."
)
CURVES_NOTE = (
    "A held-out adapter's score is multiplied by s and t is added; dashed: what would leave it as "
    "it is. With marks, the components that the task uses; thin, those that it leaves out."
)
MEASURED = ("test", "calibration")


def calibration_section(source: ReportSource) -> Markup | None:
    """Where adapters lie before and after calibration, by how much they drift, and s and t."""
    pairs, curves = drift_pairs(source), _calibration_curves(source)
    if not pairs and curves is None:
        return None
    return section(
        "calibration",
        "Drift, and its correction",
        tag("p", DRIFT_LEAD),
        _drift_part(source, pairs) if pairs else None,
        curves,
    )


def drift_measured(entry: Mapping[str, Any]) -> str:
    """The drift of a space in numbers, as the evaluation wrote it; empty where it did not.

    `entry` is that of the space in `metrics.json`.
    """
    measured = entry.get("calibration_diagnostics", {}).get("drift", {})
    parts = [
        f"{KIND_NAMES[kind].capitalize()} adapters: {found['before']:.2f} before calibration, "
        f"{found['after']:.2f} after it, {found['expected']:.2f} by chance alone."
        for kind in MEASURED
        if (found := measured.get(kind))
    ]
    if not parts:
        return ""
    return (
        f"Measured over the {entry['n_components']} components that clustering uses: how far the "
        "mean of an artist's adapters lies from that of the train ones, in units of how far a "
        f"train adapter lies from it. {' '.join(parts)}"
    )


def _drift_part(source: ReportSource, pairs: Sequence[DriftPair]) -> Markup:
    variables, figures = css_variables(source.palette), []
    for number, pair in enumerate(pairs):
        for side, (title, held_out) in zip("ab", pair.panels, strict=True):
            draw = partial(
                draw_drift,
                fitted=pair.fitted,
                held_out=held_out,
                palette=source.palette,
                frame=pair.frame,
            )
            figures.append(drawn_panel(draw, f"drift-{number}{side}", title, variables))
    key = source.shown_space or ""
    measured = drift_measured(source.metrics.get("clustering", {}).get(key, {}))
    return tag(
        "div",
        _legend(source, pairs[0]),
        tag("div", figures, class_="figures"),
        tag("p", DRIFT_NOTE.format(space=space_name(key)), class_="caption"),
        tag("p", measured, class_="caption") if measured else None,
    )


def _legend(source: ReportSource, pair: DriftPair) -> Markup:
    """What marks are, and below it whose colours these are."""
    marks = [
        tag("li", tag("b", mark.sign, aria_hidden="true"), mark.name)
        for mark in DRIFT_MARKS.values()
    ]
    artists = [
        tag("li", tag("span", class_="dot", style=f"background:var(--a{number})"), plain(artist))
        for number, artist in enumerate(source.artists)
        if artist in pair.fitted.artists
    ]
    return tag("div", tag("ul", marks, class_="lines"), tag("ul", artists, class_="lines"))


def _calibration_curves(source: ReportSource) -> Markup | None:
    lines = calibration_lines(source)
    if not lines:
        return None
    variables = css_variables(source.palette)
    figures = [
        drawn_panel(
            partial(draw_calibration, lines=lines, part=part),
            f"calibration-{part}",
            title,
            variables,
            label=f"{title}, by component",
        )
        for part, title in NAMES.items()
    ]
    items = [
        tag(
            "li",
            tag("i", style=f"background:var({variables[COLOURS[line.task]]})"),
            f"{line.task} ({space_name(line.space)})",
        )
        for line in lines
    ]
    return tag(
        "div",
        tag("h3", "By how much"),
        tag("ul", items, class_="lines"),
        tag("div", figures, class_="figures"),
        tag("p", CURVES_NOTE, class_="caption"),
    )
