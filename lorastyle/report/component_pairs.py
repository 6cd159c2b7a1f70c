"""Later components, of the weights beside those of images: figure 6 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorastyle.corpus.stage import read_plan
from lorastyle.evaluation.baselines import adapter_features
from lorastyle.evaluation.encoding import Encoding, Originals, feature_of
from lorastyle.evaluation.similarity import principal_scores
from lorastyle.report.canvas import css_variables, inline_svg, new_figure, styled
from lorastyle.report.figures import draw_centroids, draw_marks, legend_mark
from lorastyle.report.markup import Markup, tag
from lorastyle.report.palette import INK, RULE, Palette
from lorastyle.report.panels import spread_artists
from lorastyle.report.scores import chosen_feature
from lorastyle.report.shown import NO_LABEL, FloatArray, Points
from lorastyle.report.source import FIT, ReportSource
from lorastyle.report.words import plain, space_name

MAX_PAIRS = 4


@dataclass(frozen=True)
class PairedComponents:
    """The same fit adapters of a few artists under one embedding, a place for each pair."""

    name: str
    pairs: tuple[Points, ...]
    """On components 1 and 2, 3 and 4, and so on."""


def component_pairs(source: ReportSource) -> list[PairedComponents]:
    """The chosen image feature, if its vectors were kept, then the shown style space.

    Each has a PCA of all fit adapters; of these, ten artists are shown. None without four
    components.
    """
    space = source.spaces.get(source.shown_space or "")
    if space is None or space.n_components < 4:
        return []
    points = space.points().of(FIT)
    named = points.artists != NO_LABEL
    shown = spread_artists(points.artists[named], points.genres[named])
    fitted = (space.adapters["kind"] == FIT).to_numpy()
    scores, adapters = space.calibrated[fitted], space.adapters[fitted]
    labels = [adapters[name].to_numpy(dtype=str) for name in ("artist", "genre", "kind")]
    embeddings = {space_name(source.shown_space or ""): scores}
    feature = chosen_feature(source.metrics, "clustering")
    vectors = (
        None if feature is None else kept_vectors(source, feature, list(adapters["adapter_id"]))
    )
    if feature is not None and vectors is not None:
        embeddings = {plain(feature): principal_scores(vectors, 2 * MAX_PAIRS)} | embeddings
    n_pairs = min(MAX_PAIRS, *(scores.shape[1] // 2 for scores in embeddings.values()))
    return [
        PairedComponents(
            name,
            tuple(Points(scores[:, 2 * i : 2 * i + 2], *labels).by(shown) for i in range(n_pairs)),
        )
        for name, scores in embeddings.items()
    ]


def kept_vectors(source: ReportSource, feature: str, adapter_ids: list[str]) -> FloatArray | None:
    """A feature's vectors of these adapters (m, dimension); None where they were not kept.

    They are kept where this run was evaluated; nothing is encoded.
    """
    identity = source.metrics["features"][feature].get("identity")
    if identity is None or not source.run.is_planned:
        return None
    planned = {spec.adapter_id: spec.image_ids for spec in read_plan(source.run)}
    if not planned.keys() >= set(adapter_ids):
        return None
    originals = Originals.of(source.run)
    encoding = Encoding(source.run, feature_of(source.run, feature), originals)
    encoded = encoding.read_kept(identity)
    if encoded is None or len(encoded) != len(originals.catalogue):
        return None
    images = [planned[name] for name in adapter_ids]
    return adapter_features(encoded, list(originals.catalogue["image_id"]), images)


def pairs_figure(rows: Sequence[PairedComponents], palette: Palette) -> Any:
    """A row an embedding, a column a pair of components; colours are artists, stars their means."""
    n_pairs = len(rows[0].pairs)
    figure, axes = new_figure(2.2 * n_pairs, 2.2 * len(rows) + 0.9, len(rows), n_pairs)
    for line, row in zip(axes, rows, strict=True):
        for number, (ax, points) in enumerate(zip(line, row.pairs, strict=True)):
            draw_marks(ax, points, palette, marker="o", size=11, alpha=0.75)
            draw_centroids(ax, points, palette)
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.spines[:].set(visible=True, color=RULE["light"])
            ax.margins(0.06)
            if row is rows[0]:
                title = f"{2 * number + 1} and {2 * number + 2}"
                ax.set_title(title if number else f"Components {title}")
        line[0].set_ylabel(row.name, color=INK["light"], fontweight="bold")
    artists = np.unique(rows[0].pairs[0].artists)
    figure.legend(
        handles=[
            legend_mark("o", plain(str(artist)), 5, palette.artist(str(artist)))
            for artist in artists
        ],
        loc="outside lower left",
        ncols=5,
    )
    return figure


def pairs_part(rows: Sequence[PairedComponents], palette: Palette) -> Markup | None:
    """The figure in the page; None where there is none."""
    if not rows:
        return None
    with styled():
        drawn = inline_svg(
            pairs_figure(rows, palette), "pairs", "Pairs of components", css_variables(palette)
        )
    beside = " beside the images themselves" if len(rows) > 1 else ""
    of_both = " Each embedding has a PCA of its own, of the same fit adapters." if beside else ""
    return tag(
        "div",
        tag("h3", f"Later components{beside}"),
        tag("div", tag("figure", drawn), class_="pairs"),
        tag(
            "p",
            f"{len(np.unique(rows[0].pairs[0].artists))} artists; a star is an artist's mean."
            f"{of_both} Axes have no scale, and a component has no sign: a panel may be mirrored.",
            class_="caption",
        ),
    )
