from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from lorastyle.evaluation.floor import (
    floor_section,
    random_average_precision,
    random_average_precision_at_k,
    random_clustering,
    random_recall_at_k,
    random_retrieval,
)
from lorastyle.evaluation.retrieval import score_ranking


@pytest.mark.parametrize("n_relevant", [1, 2, 5, 6])
@pytest.mark.parametrize("top_k", [1, 2, 4, 6, 9])
def test_expectations_are_means_over_every_order(n_relevant, top_k):
    relevant = [True] * n_relevant + [False] * (6 - n_relevant)
    every = score_ranking(np.array(list(permutations(relevant))), top_k)
    assert random_average_precision(6, n_relevant) == pytest.approx(every.average_precision.mean())
    assert random_average_precision_at_k(6, n_relevant, top_k) == pytest.approx(
        every.average_precision_at_k.mean()
    )
    assert random_recall_at_k(6, top_k) == pytest.approx(every.recall_at_k.mean())


def test_a_simulation_of_unequal_artists_agrees():
    rng = np.random.default_rng(0)
    gallery = np.repeat(["a", "b", "c"], [2, 9, 19])
    queries = np.array(["a", "a", "b", "c", "stranger"])
    orders = rng.permuted(np.tile(np.arange(30), (4_000, 1)), axis=1)
    found = [score_ranking(gallery[orders] == name, 8) for name in queries[:4]]
    expected = random_retrieval(gallery, queries, 8)
    for name, values in (
        ("map", "average_precision"),
        ("map_at_k", "average_precision_at_k"),
        ("recall_at_k", "recall_at_k"),
    ):
        each = np.stack([getattr(one, values) for one in found])
        error = each.mean(axis=0).std() / np.sqrt(4_000)
        assert expected[name] == pytest.approx(each.mean(), abs=4 * error)
    assert random_retrieval(gallery, queries[4:], 8) == {}


def test_more_relevant_adapters_than_there_are_is_refused():
    with pytest.raises(ValueError, match="5 of 4 gallery adapters"):
        random_average_precision(4, 5)


@pytest.mark.parametrize("sizes", [[3] * 20, [1, 2, 3, 9], [5, 5], [1, 1, 1]])
def test_labels_dealt_at_random_share_what_scikit_learn_expects(sizes):
    artists = np.repeat([f"artist{i}" for i in range(len(sizes))], sizes)
    table, n = contingency_matrix(artists, artists), len(artists)
    shares = np.array(sizes) / n
    expected = expected_mutual_information(table, n) / -(shares * np.log(shares)).sum()
    assert random_clustering(artists)["nmi"] == pytest.approx(expected)


def test_a_deal_of_the_paper_s_test_adapters_has_no_ari_and_most_of_its_nmi():
    artists, rng = np.repeat(np.arange(63), 3), np.random.default_rng(0)
    dealt = [rng.permutation(artists) for _ in range(50)]
    floor = random_clustering(artists.astype(str))
    nmi = [normalized_mutual_info_score(artists, one) for one in dealt]
    assert floor["nmi"] == pytest.approx(np.mean(nmi), abs=0.005)
    assert floor["nmi"] > 0.7
    assert np.mean([adjusted_rand_score(artists, one) for one in dealt]) == pytest.approx(
        floor["ari"], abs=0.005
    )


def test_the_floor_of_a_run_is_of_the_adapters_that_are_measured(grams, experiment):
    floor = floor_section(grams.table, experiment)
    # Four artists: 6 - 2 adapters fitted on, 2 held out; 6 in the gallery, 2 queries; k = 6.
    assert floor["clustering"]["train"] == random_clustering(np.repeat(list("abcd"), 4))
    assert floor["clustering"]["test"] == random_clustering(np.repeat(list("abcd"), 2))
    assert floor["retrieval"]["val"]["recall_at_k"] == pytest.approx(6 / 24)
    assert floor["retrieval"]["test"]["map"] == pytest.approx(random_average_precision(24, 6))
    no_queries = grams.table[~grams.table["role"].isin(["query_val", "query_test"])]
    assert floor_section(no_queries, experiment)["retrieval"] == {}
