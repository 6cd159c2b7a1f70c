"""The sections of the page, each from what was read to markup."""

from __future__ import annotations

from collections.abc import Mapping

from lorastyle.report.markup import Markup, tag
from lorastyle.report.scenario_section import scenarios
from lorastyle.report.scores import (
    TASKS,
    chosen_feature,
    feature_entries,
    score_of,
    std_of,
)
from lorastyle.report.source import ReportSource
from lorastyle.report.tables import Column, method_rows, score_table
from lorastyle.report.words import SCORE_NAMES, percent, plain, space_name

TRACK_NOTE = (
    "Factors are A and B flattened; ΔW is their product, compared by cosine. On the line at the "
    "right, ○ is without calibration and ● with it. Bold: the best of a column. PC counts, the "
    "chosen space and the image feature it is held against come from validation."
)
MAX_NAMED = 4
"""Style spaces that lack a number for one reason are named up to so many."""
Groups = tuple[tuple[str, tuple[Column, ...]], ...]
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
            f"Opens with {space_name(source.shown_space or '')}, the space that "
            "validation chose for clustering. Both axes have one scale, so what is far on the map "
            "is far in the space. Point at a mark for its name; choose artists in the legend.",
            class_="caption",
        ),
    )


def clustering_section(source: ReportSource, pairs: Markup | None = None) -> Markup:
    """Tables 1 and 2 of the paper; `pairs` shows later components."""
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
            f"k-means with k = {protocol.get('n_artists', source.n_artists)} artists, fitted "
            "on the train adapters; validation and test adapters are assigned to its centroids. ",
            f"Mean ± standard deviation over {n_seeds} seeds. " if n_seeds else None,
            TRACK_NOTE,
            class_="caption",
        ),
        pairs,
        _reasons(source, "clustering"),
    )


def retrieval_section(source: ReportSource, examples: Markup | None = None) -> Markup:
    """Figure 7 and supplementary tables 1 and 4 of the paper; `examples` is what queries found."""
    protocol = source.metrics.get("protocol", {})
    chosen = source.chosen_space("retrieval")
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
            "image features of the training images by cosine distance. mAP is over the "
            "whole ranking; mAP@k looks at the first k only and forgives what was not found. ",
            TRACK_NOTE,
            class_="caption",
        ),
        scenarios(source),
        examples,
        _reasons(source, "retrieval"),
    )


def verdict(source: ReportSource, task: str) -> Markup:
    """One sentence: the chosen space beside the chosen image feature, whichever is ahead."""
    score, chosen = TASKS[task], source.chosen_space(task)
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


def _scores(source: ReportSource, task: str) -> Markup:
    entries = source.metrics.get(task, {})
    features = feature_entries(source.metrics, task)
    rows = method_rows(entries, features, source.chosen_space(task))
    return score_table(rows, COLUMNS[task], ("test", TASKS[task]))


def _reasons(source: ReportSource, task: str) -> Markup | None:
    """Why numbers are absent, as the evaluation wrote it beside them (docs/formats.md)."""
    whole = {
        key.removeprefix(f"{task}/"): str(reason)
        for key, reason in source.metrics.get("reasons", {}).items()
        if key.partition("/")[0] not in TASKS or key.startswith(f"{task}/")
    }
    found: dict[str, list[str]] = {}
    for key, reason in whole.items():
        found.setdefault(f": {reason}", []).append(space_name(key))
    for key, entry in source.metrics.get(task, {}).items():
        for name, reason in entry.items():
            if name.endswith("_reason"):
                what = f", {name.removesuffix('_reason')}: {reason}"
                found.setdefault(what, []).append(space_name(key))
    items = [tag("li", f"{_who(spaces)}{what}") for what, spaces in found.items()]
    return tag("ul", items, class_="notes") if items else None


def _who(spaces: list[str]) -> str:
    return "; ".join(spaces) if len(spaces) <= MAX_NAMED else f"{len(spaces)} style spaces"
