"""The benchmark of the sweep at a size of seconds, in this process."""

import json

import numpy as np
import pytest

from benchmarks.sweep import contest
from benchmarks.sweep.__main__ import SMALL, main
from benchmarks.sweep.plain import plain_curve
from benchmarks.sweep.planted import QUERY_SPREAD, ROLES, planted_grams
from benchmarks.synthetic import SHARES
from lorastyle.config import parse_experiment
from lorastyle.distributed.grid import grid_of
from lorastyle.embedding.gram import GramSet
from lorastyle.evaluation.selection import evaluate_setting


@pytest.fixture(scope="module")
def experiment():
    return parse_experiment(SMALL)


@pytest.fixture(scope="module")
def grams(experiment):
    return planted_grams(experiment, seed=1)


def here(function, arguments, n_processes, n_threads):
    return [function(*each) for each in arguments], float(n_processes)


def test_the_whole_runs_and_both_contestants_agree(monkeypatch, capsys):
    monkeypatch.setattr(contest, "timed", here)
    # The stage has tests of its own, and starts Ray.
    monkeypatch.setattr(contest, "whole_sweep", lambda run: {"n_points": 20})
    main(["--small", "--json"])
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["settings"]["sub_networks"] == list(contest.SUB_NETWORKS)
    assert max(document["differences"].values()) <= 1e-12
    assert {"ari_mean", "nmi_mean", "train_ari_mean", "map"} <= document["differences"].keys()
    assert "| plain scikit-learn, " in printed.err


def test_the_plain_loop_scores_every_count_of_a_trial(experiment, grams):
    settings = contest.plain_settings(experiment)
    curve, seconds = plain_curve(grams.matrix("factors", "full"), grams.table, settings)
    found = evaluate_setting(grams, None, "factors", "full", experiment)["curves"]["full"]
    assert curve["n_components"].tolist() == [point["n_components"] for point in found]
    assert seconds.keys() == {"spaces", "clustering", "retrieval"}


def test_some_counts_are_lines_of_all(experiment, grams):
    gram = grams.matrix("factors", "full")
    every, _ = plain_curve(gram, grams.table, contest.plain_settings(experiment))
    some, _ = plain_curve(gram, grams.table, contest.plain_settings(experiment, [2, 5]))
    np.testing.assert_array_equal(some, every.iloc[[1, 4]])


def test_a_difference_is_found(experiment, grams):
    gram = grams.matrix("factors", "full")
    curve, _ = plain_curve(gram, grams.table, contest.plain_settings(experiment))
    other = curve.assign(map=curve["map"] + 0.25 * (curve["n_components"] == 3))
    differences = contest.largest_differences([curve, other], [curve, curve])
    assert differences.pop("map") == pytest.approx(0.25)
    assert set(differences.values()) == {0}


def test_planted_matrices_are_inner_products_with_artists_in_them(experiment, grams):
    counts = {role: experiment.protocol.count(role) for role in ROLES}
    assert len(grams.table) == 4 * sum(counts.values())
    for name in SHARES:
        gram = grams.matrix("factors", name)
        np.testing.assert_allclose(gram, gram.T, rtol=0, atol=1e-12)
        assert np.linalg.eigvalsh(gram).min() > -1e-6 * np.trace(gram)
        artists = grams.table["artist"].to_numpy()
        same = artists[:, None] == artists
        np.fill_diagonal(same, False)
        assert gram[same].mean() > 3 * np.abs(gram[artists[:, None] != artists].mean())


def test_a_planted_run_is_embedded_for_the_sweep(tmp_path, experiment, grams):
    run = contest.embedded_run(tmp_path, grams, experiment)
    settings = grid_of(experiment, GramSet.load(run.embedding_path)).settings
    assert [setting.sub_network for setting in settings] == list(contest.SUB_NETWORKS)
    assert run.upstream_hash("embed")
    assert grams.share("full") == 1


def test_queries_spread_more(grams):
    length = np.diag(grams.matrix("factors", "full"))
    queries = grams.table["role"].str.startswith("query").to_numpy()
    assert QUERY_SPREAD > 1
    assert length[queries].mean() > length[~queries].mean()


def test_the_same_seed_plants_the_same(experiment, grams):
    again = planted_grams(experiment, seed=1)
    np.testing.assert_array_equal(again.matrix("factors", "full"), grams.matrix("factors", "full"))
