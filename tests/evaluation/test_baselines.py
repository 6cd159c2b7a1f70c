import numpy as np
import pytest

from lorastyle.errors import StageError
from lorastyle.evaluation.baselines import (
    adapter_features,
    feature_entry,
    feature_vectors,
)
from lorastyle.evaluation.protocol import ProtocolSettings


def test_an_adapter_is_the_mean_of_the_images_it_was_trained_on():
    features = np.array([[0.0], [2.0], [7.0]], np.float32)
    found = adapter_features(features, ["x", "y", "z"], [("y", "z"), ("x",)])
    np.testing.assert_allclose(found, [[4.5], [0]])


def test_an_image_that_is_not_in_the_catalogue_is_named():
    with pytest.raises(StageError, match="first 'gone'"):
        adapter_features(np.ones((1, 1), np.float32), ["x"], [("x", "gone")])


def test_all_train_adapters_are_the_gallery_and_queries_are_told_apart(grams):
    vectors = np.arange(len(grams.table), dtype=float)[:, None]
    task = feature_vectors(vectors, grams.table, "retrieval")
    assert len(task.fit) == 4 * 6
    roles = grams.table.loc[task.held_out["test"].vectors.ravel().astype(int), "role"]
    assert set(roles) == {"query_test"}


def test_features_that_tell_artists_apart_score_one(grams, experiment):
    artists = grams.table["artist"].str.removeprefix("artist").astype(int).to_numpy()
    entry, queries = feature_entry(np.eye(4)[artists], grams.table, ProtocolSettings.of(experiment))
    for split in ("train", "val", "test"):
        assert entry["clustering"][split]["ari"] == {"mean": 1.0, "std": 0.0}
    for split in ("val", "test"):
        assert entry["retrieval"]["orig_orig"][split]["map"] == 1.0
        assert (queries["orig_orig"][split].recall_at_k == 1.0).all()
    assert "uncalibrated" not in entry["clustering"]
    for absent in ("orig_gen", "gen_orig", "gen_gen"):
        assert absent not in entry["retrieval"]
        assert "no images were generated" in entry["retrieval"][f"{absent}_reason"]


def test_generated_images_make_the_other_scenarios(grams, experiment):
    rng = np.random.default_rng(0)
    artists = grams.table["artist"].str.removeprefix("artist").astype(int).to_numpy()
    original = np.eye(4)[artists]
    generated = np.eye(4)[(artists + 1) % 4] + 0.01 * rng.normal(size=(len(artists), 4))
    settings = ProtocolSettings.of(experiment)
    entry, queries = feature_entry(original, grams.table, settings, generated)
    test = {name: scenario["test"] for name, scenario in entry["retrieval"].items()}
    assert set(test) == {"orig_orig", "orig_gen", "gen_orig", "gen_gen"}
    # Each source finds its own; in the other's gallery an artist's place is the next artist's.
    assert test["orig_orig"]["recall_at_k"] == test["gen_gen"]["recall_at_k"] == 1
    assert test["orig_gen"]["recall_at_k"] == test["gen_orig"]["recall_at_k"] == 0
    alone, expected = feature_entry(original, grams.table, settings)
    assert alone["clustering"] == entry["clustering"]
    assert set(queries) == set(test) and set(expected) == {"orig_orig"}
    for scenario, scores in queries.items():
        assert scores["test"].recall_at_k.mean() == test[scenario]["recall_at_k"]
