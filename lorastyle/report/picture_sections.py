"""The sections of the page that are mostly pictures: curves, and the artists' works."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import pandas as pd

from lorastyle.report.canvas import css_variables
from lorastyle.report.curve_figures import draw_curves
from lorastyle.report.markup import Markup, tag
from lorastyle.report.panel import drawn_panel
from lorastyle.report.panels import curve_panels
from lorastyle.report.retrieval_examples import queries_of
from lorastyle.report.scores import score_of
from lorastyle.report.sections import section
from lorastyle.report.source import ReportSource
from lorastyle.report.sweep_section import curve_key
from lorastyle.report.tables import plain_table
from lorastyle.report.words import percent, plain, space_name


def components_section(source: ReportSource) -> Markup | None:
    """Supplementary figures 3 and 4 of the paper, and the counts they led to.

    None where there was a sweep, which has a section of its own.
    """
    if source.swept is not None:
        return None
    panels = curve_panels(source)
    variables = css_variables(source.palette)
    figures = [
        drawn_panel(
            partial(draw_curves, panel=panel),
            f"curve-{number}",
            panel.title,
            variables,
            label=f"{panel.title}: validation score",
        )
        for number, panel in enumerate(panels)
    ]
    return section(
        "components",
        "How many components are enough",
        tag(
            "p",
            "Scores on validation against the number of principal components kept. The dashed line "
            "is the count used everywhere else on this page, chosen on validation.",
        ),
        curve_key(panels, variables),
        tag("div", figures, class_="figures") if figures else None,
        _chosen_counts(source),
    )


def artists_section(
    source: ReportSource, works: Mapping[str, list[str]], sheets: Mapping[str, str]
) -> Markup:
    """A card an artist: works, how often its queries find it, and the way to its sheet."""
    found = artist_scores(source.queries, source.chosen_space("retrieval"))
    cards = []
    ordered = sorted(source.artists, key=lambda artist: (source.genre_of[artist], artist))
    for artist in ordered:
        number = source.artists.index(artist)
        images = [
            tag("img", src=address, alt="", loading="lazy", width=62, height=62)
            for address in works.get(artist, [])
        ]
        dot = tag("span", class_="dot", style=f"background:var(--a{number})")
        score = found.get(artist)
        line = tag(
            "p",
            tag("span", plain(source.genre_of[artist])),
            tag("span", f"mAP {percent(score)} %") if score is not None else None,
        )
        filled = tag("i", style=f"width:{100 * (score or 0):.1f}%;background:var(--a{number})")
        meter = (
            tag("div", filled, class_="meter", aria_hidden="true") if score is not None else None
        )
        heading = tag("h3", dot, plain(artist))
        sheet = sheets.get(artist)
        link = tag("a", "One adapter’s images", href=f"sheets/{quote(sheet)}") if sheet else None
        cards.append(
            tag(
                "article",
                tag("div", images, class_="works"),
                heading,
                line,
                meter,
                tag("p", link, class_="sheet-link") if link else None,
                class_="artist",
                id=f"artist-{number}",
            )
        )
    note = " mAP is the mean over the artist's test queries." if found else ""
    return section(
        "artists",
        "The artists",
        tag("p", f"Some of the works that the adapters were trained on.{note}"),
        tag("div", cards, class_="artists"),
    )


def artist_scores(queries: pd.DataFrame, space: str | None) -> dict[str, float]:
    """Mean average precision of each artist's test queries in a style space."""
    found = queries_of(queries, space)
    if found.empty:
        return {}
    means = found.groupby("artist")["average_precision"].mean()
    return {str(artist): float(mean) for artist, mean in means.items()}


def _chosen_counts(source: ReportSource) -> Markup:
    clustering = source.metrics.get("clustering", {})
    retrieval = source.metrics.get("retrieval", {})
    rows = [
        [space_name(key), *(_count_and_score(task.get(key), name) for task, name in both)]
        for key in dict.fromkeys([*clustering, *retrieval])
        for both in [((clustering, "ari"), (retrieval, "map"))]
    ]
    return plain_table(["Style space", "PCs for clustering", "PCs for retrieval"], rows)


def _count_and_score(entry: Mapping[str, Any] | None, score: str) -> str:
    if entry is None or "n_components" not in entry:
        return "–"
    value = score_of(entry, "val", score)
    beside = "" if value is None else f" ({percent(value)} %)"
    return f"{entry['n_components']}{beside}"
