import json
import math

import pytest

from lorastyle.evaluation.curves import CURVE_COLUMNS
from lorastyle.evaluation.sweep_choice import choose_best, results_table
from lorastyle.evaluation.swept import (
    INGESTED,
    RESULT_COLUMNS,
    TRAINED,
    TRUNCATED,
    SweptSetting,
    own_setting,
    pick_of,
    setting_of,
)


def point(n_components, **scores):
    return {"n_components": n_components, **scores}


def found(share=1.0, **curves):
    return {"share": share, "curves": curves}


@pytest.fixture
def settings(experiment):
    return [
        own_setting(experiment, "factors", "full"),
        own_setting(experiment, "delta", "up&to_v"),
        SweptSetting("delta", "full", 4, TRUNCATED, False),
    ]


@pytest.fixture
def trials():
    low = [point(1, map=0.3, map_se=0.0, ari_mean=0.9, ari_se=0.1), point(2, map=0.4, map_se=0.0)]
    return [
        found(full=low),
        found(0.25, full=low, none=[point(1, map=0.5, map_se=0.2), point(2, map=0.6, map_se=0.2)]),
        found(full=[point(1, map=0.6, map_se=0.0)]),
    ]


def test_every_point_of_every_form_is_a_line(settings, trials):
    table = results_table(settings, trials)
    assert tuple(table.columns) == RESULT_COLUMNS
    assert len(table) == 2 + 4 + 1
    line = table.iloc[4]
    assert (line["representation"], line["sub_network"], line["calibration"]) == (
        "delta",
        "up&to_v",
        "none",
    )
    assert (line["share"], line["n_components"], line["map"]) == (0.25, 1, 0.5)
    assert math.isnan(line["ari_mean"])
    assert list(table["rank_method"].unique()) == [TRAINED, TRUNCATED]
    assert table["rank"].iloc[-1] == 4


def test_the_winner_has_the_largest_score_and_within_it_the_rule_decides(
    settings, trials, experiment
):
    best = choose_best(settings, trials, experiment)
    assert json.loads(json.dumps(best, allow_nan=False)) == best
    winner = best["best"]["retrieval"]
    # 0.6 in two settings: the first. Its smallest count within 0.2 of it is 1.
    assert (winner["sub_network"], winner["calibration"]) == ("up&to_v", "none")
    assert winner["n_components"] == 1
    assert winner["argmax"] == {"n_components": 2, "map": 0.6, "map_se": 0.2}
    assert winner["validation"]["map"] == 0.5
    assert best["objectives"]["map"] == winner
    assert best["best"]["clustering"]["representation"] == "factors"
    assert "nmi" not in best["objectives"]
    assert list(best["settings"]) == ["factors/full", "delta/up&to_v", "delta/full@truncated4"]
    assert list(best["settings"]["delta/full@truncated4"]) == ["retrieval"]


def test_what_a_task_is_chosen_by_can_be_changed(settings, trials, new_experiment):
    trials[2]["curves"]["full"][0] |= {"recall_at_k": 0.9, "recall_at_k_se": 0.0}
    experiment = new_experiment(sweep={"retrieval_objective": "recall_at_k", "rule": "best"})
    best = choose_best(settings, trials, experiment)
    assert best["best"]["retrieval"]["rank_method"] == TRUNCATED
    assert best["objectives"]["map"]["sub_network"] == "up&to_v"
    assert best["objectives"]["map"]["n_components"] == 2


def test_a_point_is_a_pick_again(settings, trials, experiment):
    best = choose_best(settings, trials, experiment)
    pick = pick_of(best["best"]["retrieval"], experiment)
    assert pick.setting == settings[1]
    assert (pick.calibration, pick.n_components) == ("none", 1)
    assert (pick.score, pick.chosen_score) == (0.6, 0.5)


def test_settings_are_named_by_rank_and_how_they_came_to_it(experiment, new_experiment):
    own = experiment.training.rank
    assert own_setting(experiment, "delta", "full").key == "delta/full"
    other = SweptSetting("delta", "full", own + 4, TRAINED, False)
    assert (other.key, other.embedded_as, other.in_other_run) == (
        f"delta/full@rank{own + 4}",
        "delta",
        True,
    )
    cut = SweptSetting("delta", "mid", 2, TRUNCATED, False)
    assert (cut.key, cut.embedded_as, cut.in_other_run) == (
        "delta/mid@truncated2",
        "delta@2",
        False,
    )
    for setting in (other, cut, own_setting(experiment, "factors", "up+down")):
        assert setting_of(setting.to_dict(), experiment) == setting
    ingested = new_experiment(corpus={"source": "adapters"})
    setting = own_setting(ingested, "delta", "full")
    assert (setting.rank, setting.rank_method, setting.is_own) == (None, INGESTED, True)
    assert setting_of(setting.to_dict(), ingested) == setting


def test_columns_are_those_of_curves(settings, trials):
    assert set(CURVE_COLUMNS) <= set(results_table(settings, trials).columns)
