"""The page: one HTML file that shows a run and asks the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping

from lorastyle.report.calibration_section import calibration_section
from lorastyle.report.canvas import theme_rules
from lorastyle.report.caption_section import captions_section
from lorastyle.report.markup import Markup, raw, tag
from lorastyle.report.pages import asset, both_themes
from lorastyle.report.picture_sections import (
    artists_section,
    components_section,
)
from lorastyle.report.run_facts import adapter_size, facts, n_adapters, total_wall_s
from lorastyle.report.scores import TASKS, chosen_feature, feature_entries, score_of
from lorastyle.report.sections import (
    clustering_section,
    map_section,
    retrieval_section,
    section,
    verdict,
)
from lorastyle.report.source import ReportSource
from lorastyle.report.style_map import map_data, map_frame
from lorastyle.report.sweep_section import sweep_section
from lorastyle.report.words import duration, percent, plain

# The browser itself then refuses whatever would leave the page.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
NAVIGATION = (
    ("map", "Map"),
    ("clustering", "Clustering"),
    ("retrieval", "Retrieval"),
    ("components", "Components"),
    ("sweep", "Sweep"),
    ("calibration", "Calibration"),
    ("artists", "Artists"),
    ("captions", "Captions"),
    ("run", "The run"),
)
EXPLORER_FILES = ("explorer.html", "explorer/index.html")
"""Where `lorastyle explore` puts its page, beside the report's: a file, or a folder if large."""
THEME_ICON = raw(
    '<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="7" fill="none" '
    'stroke="currentColor" stroke-width="1.6"/><path d="M8,1a7,7 0 0,1 0,14z" '
    'fill="currentColor"/></svg>'
)


def make_page(
    source: ReportSource,
    works: Mapping[str, list[str]],
    static_map: Markup,
    *,
    pairs: Markup | None = None,
    examples: Markup | None = None,
    sheets: Mapping[str, str] | None = None,
    lacks: Markup | None = None,
) -> str:
    """The whole document.

    `static_map` stands in for the map where scripts do not run, `pairs` shows later components,
    `examples` is what queries found; `sheets` are files in `sheets/` by artist;
    `lacks` says what was not made.
    """
    frame = map_frame(source, map_data(source), static_map)
    sections = {
        "map": map_section(source, frame) if source.spaces else None,
        "clustering": clustering_section(source, pairs),
        "retrieval": retrieval_section(source, examples),
        "components": components_section(source),
        "sweep": sweep_section(source),
        "calibration": calibration_section(source),
        "artists": artists_section(source, works, sheets or {}),
        "captions": captions_section(source),
        "run": section("run", "How this run was made", facts(source), lacks),
    }
    present = [name for name, _ in NAVIGATION if sections[name] is not None]
    body = tag(
        "body",
        tag("div", _header(source), class_="sheet"),
        _navigation(present, _explorer(source)),
        tag("main", [sections[name] for name in present], class_="sheet"),
        tag("div", _footer(), class_="sheet"),
        tag("script", raw(asset("theme.js"))),
        tag("script", raw(asset("hull.js") + asset("style_map.js"))) if source.spaces else None,
    )
    return "<!doctype html>\n" + tag("html", _head(source), body, lang="en") + "\n"


def _head(source: ReportSource) -> Markup:
    colours = both_themes(*(theme_rules(source.palette, theme) for theme in ("light", "dark")))
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{source.run.experiment.name}: lorastyle report"),
        tag("style", raw(colours + asset("page.css"))),
    )


def _header(source: ReportSource) -> Markup:
    n = n_adapters(source)
    number = f"{n:,} adapters" if n else "adapters"
    return tag(
        "header",
        tag("p", f"lorastyle report · {source.run.experiment.name}", class_="eyebrow"),
        tag("h1", f"The style of {number}, read from their weights"),
        tag("p", verdict(source, "clustering"), " ", verdict(source, "retrieval"), class_="lead"),
        tag(
            "dl", [_score_tile(source, task) for task in TASKS], _size_tiles(source), class_="tiles"
        ),
    )


def _score_tile(source: ReportSource, task: str) -> Markup:
    score = TASKS[task]
    chosen = source.chosen_space(task)
    ours = score_of(source.metrics.get(task, {}).get(chosen or ""), "test", score)
    feature = chosen_feature(source.metrics, task)
    theirs = score_of(feature_entries(source.metrics, task).get(feature or ""), "test", score)
    label = {"clustering": "Clustering, test ARI", "retrieval": "Retrieval, test mAP"}[task]
    beside = "" if feature is None or theirs is None else f"{plain(feature)}: {percent(theirs)} %"
    value = "–" if ours is None else percent(ours)
    return _tile(label, value, "" if ours is None else " %", beside)


def _size_tiles(source: ReportSource) -> list[Markup]:
    d, wall_s = adapter_size(source), total_wall_s(source)
    world = f"by {source.n_artists} artists in {source.n_genres} genres"
    tiles = [_tile("Adapters", f"{n_adapters(source):,}", "", world)]
    note = "" if d is None else f"d = {d:,} numbers an adapter"
    if wall_s:
        value, _, unit = duration(wall_s).partition(" ")
        tiles.append(_tile("Made in", value, f" {unit}", note))
    elif d is not None:
        tiles.append(_tile("Numbers in an adapter", f"{d:,}", "", "d"))
    return tiles


def _tile(label: str, value: str, unit: str, note: str) -> Markup:
    figure = tag("dd", value, tag("small", unit), class_="value")
    return tag("div", tag("dt", label), figure, tag("dd", note, class_="note"), class_="tile")


def _explorer(source: ReportSource) -> str | None:
    there = (name for name in EXPLORER_FILES if (source.run.report_path / name).is_file())
    return next(there, None)


def _navigation(present: list[str], explorer: str | None) -> Markup:
    links = [
        tag("li", tag("a", title, href=f"#{name}")) for name, title in NAVIGATION if name in present
    ]
    if explorer is not None:
        links.append(tag("li", tag("a", "Explorer", href=explorer)))
    button = tag("button", THEME_ICON, type="button", id="theme", aria_label="Light or dark")
    inner = tag("div", tag("ul", links), button, class_="sheet")
    return tag("nav", inner, aria_label="Sections")


def _footer() -> Markup:
    return tag(
        "footer",
        "Method: “A LoRA is Worth a Thousand Pictures”. Figures as PNG and SVG lie "
        "beside this page, in ",
        tag("code", "figures/"),
        ".",
    )
