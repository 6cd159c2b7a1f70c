"""Pairs of later components, against a PCA by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from lorastyle.base.images import load_image
from lorastyle.evaluation.encoding import Encoding, Originals, feature_of
from lorastyle.records import AdapterSpec
from lorastyle.report.canvas import styled
from lorastyle.report.component_pairs import component_pairs, pairs_figure
from lorastyle.report.source import read_source
from lorastyle.runs import Run, write_json

FEATURE = "pixel_mean"


@pytest.fixture(scope="module")
def run(make_evaluated_run, tmp_path_factory) -> Run:
    """A run whose adapters were trained on two images each, and whose feature was kept."""
    run = make_evaluated_run(tmp_path_factory.mktemp("pairs") / "run", 12, 4)
    catalogue = pd.read_parquet(run.catalogue_path)
    hashed = {"content_hash": catalogue["image_id"], "width": 24, "height": 24}
    catalogue.assign(**hashed, caption="", split="train").to_parquet(run.catalogue_path)
    adapters = read_source(run, None).spaces["delta/full"].adapters
    specs = [
        AdapterSpec.from_dict(
            {
                "row": row,
                "adapter_id": name,
                "artist": artist,
                "genre": "g",
                "role": "train",
                "index": 0,
                "image_ids": [f"{artist}/{(row + i) % 4:03d}.png" for i in range(2)],
                "token": "t",
                "noise_seed": 0,
                "init_seed": 0,
            }
        ).to_dict()
        for row, (name, artist) in enumerate(
            zip(adapters["adapter_id"], adapters["artist"], strict=True)
        )
    ]
    pd.DataFrame(specs).to_parquet(run.plan_path)
    feature = feature_of(run, FEATURE)
    Encoding(run, feature, Originals.of(run)).read()
    metrics = json.loads(run.metrics_path.read_text())
    metrics["features"][FEATURE]["identity"] = feature.identity()
    write_json(run.metrics_path, metrics)
    return run


def test_the_feature_is_the_pca_of_the_means_of_its_images(run: Run) -> None:
    source = read_source(run, None)
    images, _ = component_pairs(source)
    assert images.name == "pixel mean"
    space = source.spaces[source.shown_space]
    fitted = space.adapters[space.adapters["kind"] == "train"]
    plan = pd.read_parquet(run.plan_path).set_index("adapter_id")["image_ids"]
    feature = feature_of(run, FEATURE)
    means = []
    for name in fitted["adapter_id"]:
        pictures = [load_image(run.corpus_path / image, 24) for image in plan[name]]
        means.append(feature.encode(np.stack(pictures)).astype(np.float64).mean(axis=0))
    centred = np.array(means) - np.mean(means, axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    expected = (left * values)[:, :8]
    shown = images.pairs[0].artists
    assert len(set(shown)) == 10
    keep = np.isin(fitted["artist"], shown)
    for number, points in enumerate(images.pairs):
        by_hand = expected[keep, 2 * number : 2 * number + 2]
        # A component has no sign.
        signs = np.sign((by_hand * points.xy).sum(axis=0))
        np.testing.assert_allclose(points.xy, signs * by_hand, atol=1e-4 * values[0])


def test_the_weights_are_drawn_below_on_the_same_artists(run: Run) -> None:
    source = read_source(run, None)
    rows = component_pairs(source)
    with styled():
        figure = pairs_figure(rows, source.palette)
    space = source.spaces["delta/feed_forward"]
    keep = (space.adapters["kind"] == "train") & space.adapters["artist"].isin(
        rows[0].pairs[0].artists
    )
    for number, ax in enumerate(figure.axes[4:8]):
        drawn = np.asarray(ax.collections[0].get_offsets())
        expected = space.calibrated[keep.to_numpy(), 2 * number : 2 * number + 2]
        np.testing.assert_array_equal(drawn, expected)
        stars = np.array([c.get_offsets()[0] for c in ax.collections[1:]])
        artists = space.adapters.loc[keep, "artist"].to_numpy()
        means = [expected[artists == name].mean(axis=0) for name in np.unique(artists)]
        np.testing.assert_allclose(stars, means)


def test_features_that_were_not_kept_are_not_made_again(run: Run) -> None:
    source = read_source(run, None)
    source.metrics["features"][FEATURE]["identity"] = "of other weights"
    assert [row.name for row in component_pairs(source)] == ["ΔW · feed-forward"]
