from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from lorastyle.embedding.style_space import build_space, split_rows
from lorastyle.errors import StageError, TooFewAdaptersError


def test_clustering_calibrates_with_the_last_train_adapters_of_each_artist(styled):
    table = styled[0].table
    fit, calibration = split_rows(table, "clustering", 2)
    indices = table.set_index("row")["index"]
    roles = table.set_index("row")["role"]
    assert sorted(set(indices[fit])) == [0, 1, 2, 3]
    assert sorted(set(indices[calibration])) == [4, 5]
    assert set(roles[fit]) == set(roles[calibration]) == {"train"}
    assert (len(fit), len(calibration)) == (20, 10)


def test_retrieval_fits_on_all_train_adapters_and_calibrates_with_queries(styled):
    table = styled[0].table
    fit, calibration = split_rows(table, "retrieval", 2)
    assert len(fit) == 30
    assert set(table.set_index("row")["role"][calibration]) == {"query_calibration"}


def test_an_artist_with_few_adapters_keeps_one_to_fit(styled):
    table = styled[0].table
    thin = table[(table["artist"] != "anna") | (table["index"] == 5)]
    fit, calibration = split_rows(thin, "clustering", 2)
    artists = thin.set_index("row")["artist"]
    assert (artists[fit] == "anna").sum() == 1
    assert (artists[calibration] == "anna").sum() == 0


@pytest.mark.parametrize("task", ["clustering", "retrieval"])
def test_held_out_scores_are_sklearns_projection_and_then_calibrated(styled, task):
    grams, points = styled
    space = build_space(grams, None, task, "factors", "full", n_calibration=2)
    reference = PCA(space.n_components, svd_solver="full").fit(points[space.fit_rows])
    expected_fit = reference.transform(points[space.fit_rows])
    signs = np.sign((space.scores(space.fit_rows) * expected_fit).sum(axis=0))
    np.testing.assert_allclose(space.scores(space.fit_rows) * signs, expected_fit, atol=1e-8)
    rows = space.rows("test" if task == "clustering" else "query_test")
    raw = space.scores(rows, calibrated=False)
    np.testing.assert_allclose(raw * signs, reference.transform(points[rows]), atol=1e-8)
    np.testing.assert_array_equal(space.scores(rows), space.calibration.apply(raw))
    assert space.is_calibrated
    assert not np.allclose(space.scores(rows), raw)


def test_calibration_undoes_the_shrinking_of_held_out_adapters(styled):
    grams, _ = styled
    space = build_space(grams, None, "clustering", "factors", "full", n_calibration=2)
    means = {
        name: np.abs(space.scores(space.rows("test"), calibrated=name, n_components=4)).mean()
        for name in (True, False)
    }
    fit = np.abs(space.scores(space.fit_rows, n_components=4)).mean()
    assert abs(means[True] - fit) < abs(means[False] - fit)


def test_no_held_out_adapter_influences_another_one_s_scores(styled):
    """Nor the fit: leaving the test adapters out of the table changes no score."""
    grams, _ = styled
    whole = build_space(grams, grams.table, "clustering", "factors", "full", n_calibration=2)
    part = grams.table[grams.table["role"] != "test"]
    without = build_space(grams, part, "clustering", "factors", "full", n_calibration=2)
    for rows in (whole.fit_rows, whole.rows("val")):
        np.testing.assert_array_equal(without.scores(rows), whole.scores(rows))


def test_fewer_components_are_the_first_ones(styled):
    grams, _ = styled
    whole = build_space(grams, task="retrieval", sub_network="feed_forward")
    few = build_space(grams, task="retrieval", sub_network="feed_forward", max_components=3)
    rows = whole.rows("query_val")
    assert few.n_components == 3
    np.testing.assert_allclose(few.scores(rows), whole.scores(rows, n_components=3))


def test_without_calibration_adapters_scores_stay_raw(styled):
    grams, _ = styled
    space = build_space(grams, n_calibration=0)
    assert not space.is_calibrated
    rows = space.rows("val")
    np.testing.assert_array_equal(space.scores(rows), space.scores(rows, calibrated=False))


def test_a_space_knows_whose_adapters_the_rows_are(styled):
    grams, _ = styled
    space = build_space(grams, n_calibration=2)
    rows = space.rows("val")[[3, 0]]
    expected = grams.table.set_index("row").loc[rows, "artist"].tolist()
    assert space.artists(rows).tolist() == expected
    assert space.artists(np.array([], np.int64)).tolist() == []
    assert space.scores(np.array([], np.int64)).shape == (0, space.n_components)
    with pytest.raises(KeyError, match="row 999"):
        space.artists(np.array([999]))


def test_a_space_needs_fit_adapters_and_a_known_sub_network(styled):
    grams, _ = styled
    held_out = grams.table[grams.table["role"] == "test"]
    with pytest.raises(TooFewAdaptersError, match="at least 2 fit adapters, there are 0"):
        build_space(grams, held_out)
    with pytest.raises(StageError, match="no Gram matrix for factors/cross_attention"):
        build_space(grams, sub_network="cross_attention")
