import numpy as np
import pytest

from lorastyle.evaluation.protocol import ProtocolSettings, fit_setting
from lorastyle.evaluation.weights import N_SHOWN, query_table, score_table, weight_entries


@pytest.fixture
def settings(experiment):
    return ProtocolSettings.of(experiment)


def test_entries_have_every_split_with_and_without_calibration(grams, experiment, settings):
    setting = fit_setting(grams, None, "factors", "full", experiment)
    entries, queries = weight_entries(setting, {"clustering": 3, "retrieval": 4}, settings)
    clustering, retrieval = entries["clustering"], entries["retrieval"]
    assert set(clustering) == {
        *("n_components", "calibration", "train", "val", "test", "uncalibrated")
    }
    assert set(clustering["uncalibrated"]) == {"val", "test"}
    assert set(clustering["test"]["ari"]) == {"mean", "std"}
    assert set(retrieval) == {"n_components", "calibration", "val", "test", "uncalibrated"}
    assert (clustering["n_components"], retrieval["n_components"]) == (3, 4)
    assert retrieval["test"]["n_queries"] == 8
    assert set(queries) == {"val", "test", "uncalibrated/val", "uncalibrated/test"}


def test_calibration_mends_what_projection_shrinks(new_grams, experiment, settings):
    setting = fit_setting(new_grams(noise=0.5, width=400), None, "factors", "full", experiment)
    entries, _ = weight_entries(setting, {"clustering": 3, "retrieval": 3}, settings)
    entry = entries["clustering"]
    assert entry["test"]["ari"]["mean"] >= entry["uncalibrated"]["test"]["ari"]["mean"]


def test_without_calibration_adapters_the_reason_stands_beside(
    new_grams, new_experiment, counts, settings
):
    grams = new_grams(counts={**counts, "query_calibration": 0})
    experiment = new_experiment(protocol={"calibration": 0, "query_calibration": 0})
    setting = fit_setting(grams, None, "factors", "full", experiment)
    entries, _ = weight_entries(setting, {"clustering": 3, "retrieval": 3}, settings)
    for entry in entries.values():
        assert "uncalibrated" not in entry
        assert "nothing was calibrated" in entry["uncalibrated_reason"]


def test_a_form_of_calibration_is_named_and_changes_held_out_adapters_only(
    grams, experiment, settings
):
    counts = {"clustering": 3, "retrieval": 3}
    full = fit_setting(grams, None, "factors", "full", experiment)
    none = full.calibrated_as({"clustering": "none"})
    calibrated, _ = weight_entries(full, counts, settings)
    projected, _ = weight_entries(none, counts, settings)
    assert projected["retrieval"] == calibrated["retrieval"]
    ours, theirs = calibrated["clustering"], projected["clustering"]
    assert (ours["calibration"], theirs["calibration"]) == ("full", "none")
    assert theirs["train"] == ours["train"]
    assert theirs["test"] == ours["uncalibrated"]["test"]
    assert "not to be calibrated" in theirs["uncalibrated_reason"]


def test_without_validation_adapters_the_count_is_the_number_of_artists(
    new_grams, experiment, counts, settings
):
    grams = new_grams(counts={**counts, "val": 0, "query_val": 0})
    setting = fit_setting(grams, None, "factors", "full", experiment)
    entries, _ = weight_entries(setting, {}, settings)
    for entry in entries.values():
        assert entry["n_components"] == 4
        assert "4 components for 4 artists" in entry["n_components_reason"]
        assert "val" not in entry
        assert "no usable" in entry["val_reason"]


def test_one_artist_is_no_comparison(new_grams, new_experiment, counts):
    experiment = new_experiment(protocol={"calibration": 0})
    grams = new_grams(n_artists=1, counts={**counts, "query_calibration": 0})
    setting = fit_setting(grams, None, "factors", "full", experiment)
    assert setting.vectors == {}
    assert "train or label adapters of at least 2" in setting.absent["clustering"]
    assert len(score_table(setting)) == 0


def test_queries_that_cannot_be_calibrated_are_shown_as_projected(grams, experiment):
    table = grams.table
    alone = table[(table["role"] != "query_calibration") | (table["artist"] == "artist0")]
    setting = fit_setting(grams, alone, "factors", "full", experiment)
    assert set(setting.absent) == {"retrieval"}
    scores = score_table(setting)
    assert scores.loc[scores["role"] == "query_test", "calibrated"].all()


def test_the_score_table_has_a_line_for_every_place_of_an_adapter(grams, experiment):
    setting = fit_setting(grams, None, "factors", "full", experiment)
    table = score_table(setting)
    placed = table[table["calibrated"]]
    assert placed["adapter_id"].is_unique
    assert set(placed["role"]) == {"train", "val", "test", "query_val", "query_test"}
    assert placed["fit"].sum() == 4 * (6 - 2)
    before = table[~table["calibrated"]]
    assert not before["fit"].any()
    assert set(before["adapter_id"]) == set(placed.loc[~placed["fit"], "adapter_id"])
    components = [name for name in table if name.startswith("component_")]
    assert len(components) == min(N_SHOWN, 8)
    assert np.isfinite(table[components].to_numpy()).all()


def test_scores_of_the_table_are_those_of_the_space(grams, experiment):
    setting = fit_setting(grams, None, "factors", "full", experiment)
    table, space = score_table(setting), setting.spaces["clustering"]
    for calibrated in (True, False):
        rows = space.rows("test")
        names = space.table.set_index("row").loc[rows, "adapter_id"]
        lines = table[table["calibrated"] == calibrated].set_index("adapter_id").loc[names]
        np.testing.assert_allclose(
            lines.filter(like="component_").to_numpy(), space.scores(rows, calibrated=calibrated)
        )


def test_every_query_has_a_line_and_their_mean_is_the_metric(grams, experiment, settings):
    setting = fit_setting(grams, None, "factors", "full", experiment)
    entries, queries = weight_entries(setting, {"clustering": 3, "retrieval": 3}, settings)
    table = query_table(setting, queries)
    test = table[table["calibrated"] & (table["role"] == "query_test")]
    assert len(test) == 8
    assert test["average_precision"].mean() == pytest.approx(entries["retrieval"]["test"]["map"])
    assert (test["adapter_id"].str.rsplit("-", n=2).str[0] == test["artist"]).all()
