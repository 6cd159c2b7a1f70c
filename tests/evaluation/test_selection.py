import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lorastyle.evaluation.labelled import LabelledVectors
from lorastyle.evaluation.protocol import (
    ProtocolSettings,
    clustering_entry,
    fit_setting,
    retrieval_entry,
)
from lorastyle.evaluation.selection import (
    CURVE_COLUMNS,
    choose,
    choose_counts,
    evaluate_setting,
    score_curve,
    setting_curve,
)


@pytest.fixture
def setting(grams, experiment):
    return fit_setting(grams, None, "factors", "full", experiment)


@pytest.fixture
def settings(experiment):
    return ProtocolSettings.of(experiment)


def test_a_curve_says_at_every_count_what_the_evaluation_says(setting, settings):
    curve = setting_curve(setting, settings).set_index("n_components")
    assert list(curve.index) == list(range(1, 9))
    for count in curve.index:
        clustering = clustering_entry(setting.vectors["clustering"].first(count), settings)
        retrieval, _ = retrieval_entry(
            setting.vectors["retrieval"].first(count), settings, "euclidean"
        )
        line = curve.loc[count]
        for score in ("ari", "nmi"):
            assert line[f"{score}_mean"] == pytest.approx(clustering["val"][score]["mean"])
            assert line[f"{score}_std"] == pytest.approx(clustering["val"][score]["std"])
        for score in ("map", "map_at_k", "recall_at_k"):
            assert line[score] == pytest.approx(retrieval["val"][score])


def test_a_curve_does_not_look_at_the_test_set(setting, settings):
    def blinded(vectors):
        nonsense = LabelledVectors(np.full((3, vectors.n_components), 1e9), np.array(["a"] * 3))
        held_out = {**vectors.held_out, "test": nonsense}
        return replace(vectors, held_out=held_out, uncalibrated={"test": nonsense})

    vectors = setting.vectors
    pd.testing.assert_frame_equal(
        score_curve(vectors["clustering"], vectors["retrieval"], settings),
        score_curve(blinded(vectors["clustering"]), blinded(vectors["retrieval"]), settings),
    )


def test_the_choice_is_the_smallest_of_the_best():
    curve = pd.DataFrame({"n_components": [3, 1, 2], "map": [0.9, 0.1, 0.9]})
    assert choose(curve, "map") == 2


def test_nothing_is_chosen_without_scores():
    curve = pd.DataFrame({"n_components": [1, 2], "map": [np.nan, np.nan]})
    assert choose(curve, "map") is None


def test_each_task_chooses_by_its_own_score():
    curve = pd.DataFrame(
        {"n_components": [1, 2, 3], "ari_mean": [0.1, 0.9, np.nan], "map": [0.1, 0.2, 0.3]}
    )
    assert choose_counts(curve) == {"clustering": 2, "retrieval": 3}


def test_a_setting_is_plain_values_with_its_best_counts(grams, experiment):
    found = evaluate_setting(grams, None, "delta", "feed_forward", experiment)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["representation"], found["sub_network"]) == ("delta", "feed_forward")
    assert [point["n_components"] for point in found["curve"]] == list(range(1, 9))
    assert set(found["curve"][0]) == set(CURVE_COLUMNS)
    best = found["best"]["retrieval"]
    assert best["map"] == max(point["map"] for point in found["curve"])
    best = found["best"]["clustering"]
    assert best["ari_mean"] == max(point["ari_mean"] for point in found["curve"])


def test_the_same_setting_gives_the_same_curve(grams, experiment):
    arguments = (grams, None, "factors", "self_attention", experiment)
    assert evaluate_setting(*arguments) == evaluate_setting(*arguments)


def test_only_the_adapters_asked_for_are_used(grams, experiment):
    some = grams.table[grams.table["artist"].isin(["artist0", "artist1"])]
    found = evaluate_setting(grams, some, "factors", "full", experiment)
    assert found["best"]["clustering"]["n_components"] >= 1
    assert found != evaluate_setting(grams, None, "factors", "full", experiment)


def test_a_task_without_validation_adapters_leaves_its_cells_empty(
    new_grams, new_experiment, counts
):
    grams = new_grams(counts={**counts, "val": 0})
    found = evaluate_setting(grams, None, "factors", "full", new_experiment())
    assert "clustering" not in found["best"]
    assert "ari_mean" not in found["curve"][0]
    assert "map" in found["curve"][0]


def test_one_artist_alone_has_no_curve(new_grams, experiment):
    found = evaluate_setting(new_grams(n_artists=1), None, "factors", "full", experiment)
    assert found["curve"] == []
    assert found["best"] == {}
