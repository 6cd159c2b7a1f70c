"""The sections of the page, each from what was read to markup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lorastyle.report.canvas import css_variables, inline_svg, new_figure, styled
from lorastyle.report.figures import draw_curves, draw_drift
from lorastyle.report.markup import Markup, tag
from lorastyle.report.panels import curve_panels, drift_pairs
from lorastyle.report.scores import (
    TASKS,
    chosen_feature,
    chosen_space,
    feature_entries,
    score_of,
    std_of,
)
from lorastyle.report.source import ReportSource
from lorastyle.report.tables import Column, method_rows, plain_table, score_table
from lorastyle.report.words import SCORE_NAMES, SUB_NETWORK_NAMES, percent, plain, space_name

TRACK_NOTE = (
    "Factors are A and B flattened; ΔW is their product, compared by cosine. On the line at the "
    "right, ○ is without calibration and ● with it. Bold: the best of a column. PC counts, the "
    "chosen space and the image feature it is held against come from validation."
)
Groups = tuple[tuple[str, tuple[Column, ...]], ...]
PANEL_SIZE = (4.3, 3.1)
COLUMNS: Mapping[str, Groups] = {
    "clustering": (
        ("ARI (%)", (("train", "ari"), ("val", "ari"), ("test", "ari"))),
        ("NMI (%)", (("train", "nmi"), ("val", "nmi"), ("test", "nmi"))),
    ),
    "retrieval": (
        ("mAP (%)", (("val", "map"), ("test", "map"))),
        ("mAP@k (%)", (("val", "map_at_k"), ("test", "map_at_k"))),
        ("Recall@k (%)", (("val", "recall_at_k"), ("test", "recall_at_k"))),
    ),
}


def section(anchor: str, title: str, *content: Markup | None) -> Markup:
    """A section that the navigation can reach."""
    return tag("section", tag("h2", title), *content, id=anchor)


def map_section(source: ReportSource, frame: Markup) -> Markup:
    """Figure 1 of the paper, to be explored."""
    return section(
        "map",
        "The style map",
        tag(
            "p",
            "Each mark is one LoRA adapter, placed by its weights alone. Colour is the artist, "
            "shading the genre, a star the mean of an artist's gallery adapters. Take the tick "
            "off ",
            tag("b", "calibrated"),
            " to see where held-out adapters land without calibration.",
        ),
        frame,
        tag(
            "p",
            f"Opens with {space_name(source.shown_space or '')}, the space with the best "
            "validation ARI. Both axes have one scale, so what is far on the map is far in the "
            "space. Point at a mark for its name; choose artists in the legend.",
            class_="caption",
        ),
    )


def clustering_section(source: ReportSource) -> Markup:
    """Tables 1 and 2 of the paper."""
    protocol = source.metrics.get("protocol", {})
    seeds = protocol.get("seeds")
    n_seeds = len(seeds) if isinstance(seeds, list) else seeds
    return section(
        "clustering",
        "Clustering by artist",
        tag("p", verdict(source, "clustering")),
        _scores(source, "clustering"),
        tag(
            "p",
            f"k-means with k = {protocol.get('n_artists', len(source.artists))} artists, fitted "
            "on the train adapters; validation and test adapters are assigned to its centroids. ",
            f"Mean ± standard deviation over {n_seeds} seeds. " if n_seeds else None,
            TRACK_NOTE,
            class_="caption",
        ),
        _reasons(source, "clustering"),
    )


def retrieval_section(source: ReportSource) -> Markup:
    """Figure 7 and supplementary tables 1 and 4 of the paper."""
    protocol = source.metrics.get("protocol", {})
    chosen = chosen_space(source.metrics, "retrieval")
    entry = source.metrics.get("retrieval", {}).get(chosen or "", {})
    n_queries = (entry.get("test") or {}).get("n_queries")
    asked = f"{n_queries} test queries" if n_queries else "Queries"
    n_images = source.run.experiment.protocol.images_per_query
    return section(
        "retrieval",
        "Whose style is this?",
        tag("p", verdict(source, "retrieval")),
        _scores(source, "retrieval"),
        tag(
            "p",
            f"{asked}, each an adapter trained on {n_images} images that no gallery adapter has "
            f"seen. k = {protocol.get('k', '?')}. Adapters are compared by Euclidean distance, "
            "image features of the original training images by cosine distance. mAP is over the "
            "whole ranking; mAP@k looks at the first k only and forgives what was not found. ",
            TRACK_NOTE,
            class_="caption",
        ),
        _reasons(source, "retrieval"),
    )


def verdict(source: ReportSource, task: str) -> Markup:
    """One sentence: the chosen space beside the chosen image feature, whichever is ahead."""
    score, chosen = TASKS[task], chosen_space(source.metrics, task)
    entry = source.metrics.get(task, {}).get(chosen or "")
    ours = score_of(entry, "test", score)
    name = SCORE_NAMES[score]
    if chosen is None or ours is None:
        return tag("span", f"This run has no test {name}.")
    value = tag("b", f"{percent(ours, std_of(entry, 'test', score))} %")
    done = {
        "clustering": "Held-out adapters fall into their artists' clusters with a test ARI of ",
        "retrieval": "Adapters of unseen images find their artist with a test mAP of ",
    }[task]
    feature = chosen_feature(source.metrics, task)
    theirs = score_of(feature_entries(source.metrics, task).get(feature or ""), "test", score)
    if feature is None or theirs is None:
        return tag("span", done, value, ".")
    side = "ahead of" if ours > theirs else "behind" if ours < theirs else "level with"
    other = tag("b", f"{percent(theirs)} %")
    rest = f" of the images themselves ({plain(feature)})."
    return tag("span", done, value, f", {side} the ", other, rest)


def components_section(source: ReportSource) -> Markup | None:
    """Supplementary figures 3 and 4 of the paper, and the counts they led to."""
    panels = curve_panels(source)
    variables = css_variables(source.palette)
    figures = []
    for number, panel in enumerate(panels):
        with styled():
            figure, axes = new_figure(*PANEL_SIZE)
            draw_curves(axes[0, 0], panel)
            drawn = inline_svg(
                figure, f"curve-{number}", f"{panel.title}: validation score", variables
            )
        figures.append(tag("figure", tag("figcaption", panel.title), drawn))
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    key = [
        tag("li", tag("i", style=f"background:var(--{_css(name)})"), SUB_NETWORK_NAMES[name])
        for name in names
    ]
    return section(
        "components",
        "How many components are enough",
        tag(
            "p",
            "Scores on validation against the number of principal components kept. The dashed line "
            "is the count used everywhere else on this page: the best on validation, the smallest "
            "among equals.",
        ),
        tag("ul", key, class_="lines") if key else None,
        tag("div", figures, class_="figures") if figures else None,
        _chosen_counts(source),
    )


def calibration_section(source: ReportSource) -> Markup | None:
    """Figures 5 and 8 of the paper."""
    pairs = drift_pairs(source)
    if not pairs:
        return None
    variables = css_variables(source.palette)
    figures = []
    for number, pair in enumerate(pairs):
        for side, (title, held_out) in zip("ab", pair.panels, strict=True):
            with styled():
                figure, axes = new_figure(*PANEL_SIZE)
                draw_drift(axes[0, 0], pair.fitted, held_out, source.palette, pair.frame)
                drawn = inline_svg(figure, f"drift-{number}{side}", title, variables)
            figures.append(tag("figure", tag("figcaption", title), drawn))
    return section(
        "calibration",
        "Drift, and its correction",
        tag(
            "p",
            "PCA projects adapters it has not seen towards the middle. Calibration, fitted on "
            "train images only, scales each component back. Circles are gallery adapters, "
            "triangles held-out ones, each tied to its artist's centroid: the shorter the line, "
            "the less drift.",
        ),
        tag("div", figures, class_="figures"),
    )


def artists_section(source: ReportSource, works: Mapping[str, list[str]]) -> Markup:
    """A card an artist: works, and how often its queries find it."""
    found = artist_scores(source.queries, chosen_space(source.metrics, "retrieval"))
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
        cards.append(
            tag(
                "article",
                tag("div", images, class_="works"),
                heading,
                line,
                meter,
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
    needed = {"representation", "sub_network", "split", "calibrated", "artist", "average_precision"}
    if space is None or not needed <= set(queries.columns):
        return {}
    representation, _, sub_network = space.partition("/")
    keep = (
        (queries["representation"] == representation)
        & (queries["sub_network"] == sub_network)
        & (queries["split"] == "test")
        & queries["calibrated"].astype(bool)
    )
    means = queries[keep].dropna(subset="average_precision").groupby("artist")["average_precision"]
    return {str(artist): float(mean) for artist, mean in means.mean().items()}


def _scores(source: ReportSource, task: str) -> Markup:
    entries = source.metrics.get(task, {})
    features = feature_entries(source.metrics, task)
    rows = method_rows(entries, features, chosen_space(source.metrics, task))
    return score_table(rows, COLUMNS[task], ("test", TASKS[task]))


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


def _reasons(source: ReportSource, task: str) -> Markup | None:
    """Why numbers are absent: the evaluation writes it beside them, under `absent`."""
    whole = {
        key.removeprefix(f"{task}/"): reason
        for key, reason in source.metrics.get("absent", {}).items()
        if key.startswith(f"{task}/") or key.count("/") == 1
    }
    found = [f"{space_name(key)}: {reason}" for key, reason in whole.items()]
    for key, entry in source.metrics.get(task, {}).items():
        found += [
            f"{space_name(key)}, {part}: {reason}"
            for part, reason in entry.get("absent", {}).items()
        ]
    return tag("ul", [tag("li", one) for one in found], class_="notes") if found else None


def _css(name: str) -> str:
    return name.replace("_", "-")
