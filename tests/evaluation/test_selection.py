import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lorastyle.config import SweepConfig
from lorastyle.evaluation.curves import CURVE_COLUMNS
from lorastyle.evaluation.protocol import (
    ProtocolSettings,
    clustering_entry,
    fit_setting,
    retrieval_entry,
)
from lorastyle.evaluation.selection import (
    OBJECTIVES,
    calibration_forms,
    choices_of,
    choose,
    curve_of,
    curve_points,
    evaluate_setting,
    setting_curves,
)

FORMS = ("full", "simple", "none")


@pytest.fixture
def setting(grams, experiment):
    return fit_setting(grams, None, "factors", "full", experiment)


@pytest.fixture
def settings(experiment):
    return ProtocolSettings.of(experiment)


def curve(**columns):
    """A curve of these columns, all others empty."""
    n_points = len(next(iter(columns.values())))
    values = {"n_components": np.arange(1, n_points + 1), **columns}
    return curve_of(pd.DataFrame(values).to_dict("records"))


@pytest.mark.parametrize("form", FORMS)
def test_a_curve_says_at_every_count_what_the_evaluation_says(setting, settings, form):
    found = setting_curves(setting, FORMS, settings)[form].set_index("n_components")
    calibrated = setting.calibrated_as({"clustering": form, "retrieval": form})
    assert list(found.index) == list(range(1, 9))
    for count in found.index:
        clustering = clustering_entry(calibrated.vectors["clustering"].first(count), settings)
        retrieval, _ = retrieval_entry(
            calibrated.vectors["retrieval"].first(count), settings, "euclidean"
        )
        line = found.loc[count]
        for score in ("ari", "nmi"):
            assert line[f"{score}_mean"] == pytest.approx(clustering["val"][score]["mean"])
            assert line[f"{score}_std"] == pytest.approx(clustering["val"][score]["std"])
        assert line["train_ari_mean"] == pytest.approx(clustering["train"]["ari"]["mean"])
        for score in ("map", "map_at_k", "recall_at_k"):
            assert line[score] == pytest.approx(retrieval["val"][score])


def test_uncalibrated_is_what_the_evaluation_calls_so(setting, settings):
    found = setting_curves(setting, ("none",), settings)["none"].set_index("n_components")
    entry = clustering_entry(setting.vectors["clustering"].first(5), settings)
    assert found.loc[5, "ari_mean"] == pytest.approx(entry["uncalibrated"]["val"]["ari"]["mean"])


def test_forms_differ_where_held_out_adapters_drift(setting, settings):
    curves = setting_curves(setting, FORMS, settings)
    assert not curves["full"]["map"].equals(curves["none"]["map"])
    # The fit adapters are not calibrated: the same k-means serves all forms.
    pd.testing.assert_series_equal(
        curves["full"]["train_ari_mean"], curves["none"]["train_ari_mean"], check_exact=True
    )


def test_a_curve_does_not_look_at_test_labels(grams, experiment, settings):
    """Planted: the artists of all test adapters are exchanged."""
    table = grams.table.copy()
    here = table["role"].isin(["test", "query_test"])
    table.loc[here, "artist"] = table.loc[here, "artist"].to_numpy()[::-1]
    planted = replace(grams, table=table)
    assert not planted.table.equals(grams.table)
    arguments = (None, "delta", "full", experiment)
    assert evaluate_setting(planted, *arguments) == evaluate_setting(grams, *arguments)


def test_by_hand_the_smallest_within_one_standard_error():
    scores = [0.50, 0.71, 0.79, 0.75, 0.80, 0.60]
    errors = [0.30, 0.05, 0.05, 0.05, 0.07, 0.05]
    found = choose(
        {"full": curve(map=scores, map_se=errors)}, OBJECTIVES["map"], "one_standard_error"
    )
    # 0.80 at five components, less 0.07, is 0.73; 0.71 at two is below, 0.79 at three is not.
    assert (found.n_components, found.argmax["n_components"]) == (3, 5)
    assert found.validation["map"] == 0.79
    assert found.argmax == {"n_components": 5, "map": 0.80, "map_se": 0.07}
    assert found.best_score == 0.80


def test_exactly_one_standard_error_below_is_within():
    scores = curve(ari_mean=[0.5, 0.75, 1.0], ari_se=[0.0, 0.0, 0.25])
    found = choose({"full": scores}, OBJECTIVES["ari"], "one_standard_error")
    assert found.n_components == 2


def test_by_the_rule_best_the_smallest_of_the_best():
    scores = curve(map=[0.1, 0.9, 0.9], map_se=[0.5, 0.5, 0.5])
    assert choose({"full": scores}, OBJECTIVES["map"], "best").n_components == 2


@pytest.mark.parametrize("objective", OBJECTIVES.values())
def test_the_rule_is_the_same_for_every_objective(objective):
    rng = np.random.default_rng(0)
    scores, errors = rng.uniform(size=30), rng.uniform(0, 0.2, size=30)
    found = choose(
        {"full": curve(**{objective.column: scores, objective.error: errors})},
        objective,
        "one_standard_error",
    )
    best = scores.argmax()
    within = [k for k in range(30) if scores[k] >= scores[best] - errors[best]]
    assert found.n_components == within[0] + 1


def test_a_form_is_chosen_by_its_best_score_and_the_first_among_equals():
    low, high = curve(map=[0.2, 0.4], map_se=[0, 0]), curve(map=[0.5, 0.3], map_se=[0, 0])
    assert choose({"full": low, "none": high}, OBJECTIVES["map"], "best").calibration == "none"
    assert choose({"simple": low, "full": low}, OBJECTIVES["map"], "best").calibration == "simple"


def test_nothing_is_chosen_without_scores():
    assert choose({"full": curve(ari_mean=[0.5])}, OBJECTIVES["map"], "best") is None
    assert choose({}, OBJECTIVES["map"], "best") is None


def test_each_task_chooses_by_its_own_objective():
    curves = {
        "full": curve(
            ari_mean=[0.1, 0.9, math.nan],
            nmi_mean=[0.9, 0.1, math.nan],
            map=[0.1, 0.2, 0.3],
            recall_at_k=[0.1, 0.3, 0.2],
        )
    }
    found = choices_of(curves, SweepConfig(rule="best"))
    assert {task: choice.n_components for task, choice in found.items()} == {
        "clustering": 2,
        "retrieval": 3,
    }
    other = SweepConfig(rule="best", clustering_objective="nmi", retrieval_objective="recall_at_k")
    found = choices_of(curves, other)
    assert found["clustering"].n_components == 1
    assert found["retrieval"].n_components == 2


def test_a_setting_is_plain_values(grams, new_experiment):
    experiment = new_experiment(sweep={"calibration_forms": ["full", "none"]})
    found = evaluate_setting(grams, None, "delta", "feed_forward", experiment)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["representation"], found["sub_network"]) == ("delta", "feed_forward")
    assert list(found["curves"]) == ["full", "none"]
    for points in found["curves"].values():
        assert [point["n_components"] for point in points] == list(range(1, 9))
        assert set(points[0]) == set(CURVE_COLUMNS)


def test_points_and_curves_are_each_other_s_inverse(setting, settings):
    found = setting_curves(setting, ("full",), settings)["full"]
    pd.testing.assert_frame_equal(curve_of(curve_points(found)), found, check_exact=True)


def test_the_forms_are_the_embedding_s_unless_the_sweep_says(new_experiment):
    assert calibration_forms(new_experiment(embedding={"calibration_form": "simple"})) == (
        "simple",
    )
    swept = new_experiment(sweep={"calibration_forms": ["none", "full", "none"]})
    assert calibration_forms(swept) == ("none", "full")


def test_the_same_setting_gives_the_same_curve(grams, experiment):
    arguments = (grams, None, "factors", "self_attention", experiment)
    assert evaluate_setting(*arguments) == evaluate_setting(*arguments)


def test_only_the_adapters_asked_for_are_used(grams, experiment):
    some = grams.table[grams.table["artist"].isin(["artist0", "artist1"])]
    found = evaluate_setting(grams, some, "factors", "full", experiment)
    assert "ari_mean" in found["curves"]["full"][0]
    assert found != evaluate_setting(grams, None, "factors", "full", experiment)


def test_a_task_without_validation_adapters_leaves_its_cells_empty(
    new_grams, new_experiment, counts
):
    grams = new_grams(counts={**counts, "val": 0})
    points = evaluate_setting(grams, None, "factors", "full", new_experiment())["curves"]["full"]
    assert "ari_mean" not in points[0]
    assert "map" in points[0]


def test_one_artist_alone_has_no_curve(new_grams, experiment):
    found = evaluate_setting(new_grams(n_artists=1), None, "factors", "full", experiment)
    assert found["curves"] == {"full": []}
