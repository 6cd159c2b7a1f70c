import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from lorastyle.errors import TooFewAdaptersError
from lorastyle.evaluation.labelled import LabelledVectors
from lorastyle.evaluation.retrieval import (
    average_precision,
    average_precision_at_k,
    distances,
    rank,
    recall_at_k,
    retrieve,
    score_ranking,
)

rankings = st.lists(st.booleans(), min_size=1, max_size=30)


def brute_force_ap(ranking):
    hits, total = 0, 0.0
    for position, relevant in enumerate(ranking, start=1):
        if relevant:
            hits += 1
            total += hits / position
    return total / hits


@given(rankings.filter(any))
def test_ap_equals_brute_force_and_scikit_learn(ranking):
    found = average_precision(np.array([ranking]))[0]
    assert found == pytest.approx(brute_force_ap(ranking))
    descending = -np.arange(len(ranking))
    assert found == pytest.approx(average_precision_score(ranking, descending))


@given(rankings.filter(any), st.integers(1, 35))
def test_ap_and_recall_at_k_equal_brute_force(ranking, top_k):
    ranked, first = np.array([ranking]), ranking[:top_k]
    assert recall_at_k(ranked, top_k)[0] == pytest.approx(sum(first) / sum(ranking))
    expected = brute_force_ap(first) if any(first) else 0
    assert average_precision_at_k(ranked, top_k)[0] == pytest.approx(expected)


def test_ap_worked_by_hand():
    ranked = np.array([[1, 0, 1, 0, 0, 1], [0, 0, 0, 1, 1, 1]], bool)
    np.testing.assert_allclose(
        average_precision(ranked),
        [(1 + 2 / 3 + 3 / 6) / 3, (1 / 4 + 2 / 5 + 3 / 6) / 3],
    )
    np.testing.assert_allclose(recall_at_k(ranked, 3), [2 / 3, 0])
    np.testing.assert_allclose(average_precision_at_k(ranked, 3), [(1 + 2 / 3) / 2, 0])


def test_equal_distances_keep_gallery_order():
    distance = np.zeros((1, 4))
    ranked = rank(distance, np.array(["a"]), np.array(["b", "a", "b", "a"]))
    np.testing.assert_array_equal(ranked, [[False, True, False, True]])


def test_a_distance_of_minus_zero_is_zero():
    ranked = rank(np.array([[0.0, -0.0]]), np.array(["a"]), np.array(["b", "a"]))
    np.testing.assert_array_equal(ranked, [[False, True]])


@given(
    st.integers(1, 4),
    st.integers(1, 30),
    st.sampled_from(["floats", "ties", "neighbours", "negative"]),
    st.integers(0, 1000),
)
def test_rankings_equal_a_stable_sort(n_queries, n_gallery, kind, seed):
    rng = np.random.default_rng(seed)
    distance = {
        "floats": lambda shape: rng.random(shape),
        "ties": lambda shape: rng.integers(0, 4, shape).astype(float),
        "neighbours": lambda shape: np.nextafter(0.5, rng.integers(0, 2, shape)),
        "negative": lambda shape: rng.integers(-3, 3, shape) * 1e-17,
    }[kind]((n_queries, n_gallery))
    queries = rng.integers(0, 3, n_queries).astype(str)
    gallery = rng.integers(0, 3, n_gallery).astype(str)
    for row, artist, found in zip(distance, queries, rank(distance, queries, gallery), strict=True):
        order = sorted(range(n_gallery), key=lambda item, row=row: row[item])
        np.testing.assert_array_equal(found, [gallery[item] == artist for item in order])


def test_ranking_leaves_the_distances_alone():
    distance = np.array([[0.3, 0.1]])
    rank(distance, np.array(["a"]), np.array(["a", "b"]))
    np.testing.assert_array_equal(distance, [[0.3, 0.1]])


def test_distances_equal_their_definitions():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    euclidean, cosine = (distances(queries, gallery, metric) for metric in ("euclidean", "cosine"))
    for i, query in enumerate(queries):
        for j, other in enumerate(gallery):
            assert euclidean[i, j] == pytest.approx(np.linalg.norm(query - other))
            norms = np.linalg.norm(query) * np.linalg.norm(other)
            assert cosine[i, j] == pytest.approx(1 - query @ other / norms)


def test_a_vector_without_direction_is_at_cosine_distance_one():
    found = distances(np.zeros((1, 2)), np.eye(2), "cosine")
    np.testing.assert_array_equal(found, [[1, 1]])


def gallery_and_queries(query_artists):
    gallery = LabelledVectors(np.array([[0.0], [1.0], [10.0]]), np.array(["a", "a", "b"]))
    vectors = np.linspace(0, 1, len(query_artists))[:, None]
    return gallery, LabelledVectors(vectors, np.array(query_artists))


def test_perfect_retrieval_scores_one():
    gallery, queries = gallery_and_queries(["a", "a"])
    scores = retrieve(gallery, {"test": queries}, 2, "euclidean")["test"].to_dict()
    assert scores == {"map": 1.0, "map_at_k": 1.0, "recall_at_k": 1.0, "n_queries": 2}


def test_queries_by_an_artist_without_gallery_adapters_are_not_averaged_in():
    gallery, queries = gallery_and_queries(["a", "stranger"])
    scores = retrieve(gallery, {"test": queries}, 2, "euclidean")["test"]
    np.testing.assert_array_equal(scores.answerable, [True, False])
    assert scores.to_dict()["n_queries"] == 1
    assert scores.to_dict()["map"] == 1.0


def test_only_strangers_have_no_mean():
    gallery, queries = gallery_and_queries(["stranger"])
    scores = retrieve(gallery, {"test": queries}, 2, "euclidean")["test"]
    with pytest.raises(TooFewAdaptersError, match="none of 1 queries"):
        scores.to_dict()


def test_an_empty_set_of_queries_has_no_scores():
    gallery, _ = gallery_and_queries(["a"])
    nothing = LabelledVectors(np.empty((0, 1)), np.empty(0, str))
    assert retrieve(gallery, {"test": nothing}, 2, "euclidean") == {}


def test_random_rankings_score_near_the_share_of_relevant_adapters():
    rng = np.random.default_rng(0)
    ranked = rng.random((400, 200)) < 0.1
    assert score_ranking(ranked, 20).to_dict()["recall_at_k"] == pytest.approx(0.1, abs=0.02)


@given(st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=40)
def test_scores_of_vectors_on_a_grid_equal_brute_force_ties_and_all(seed, top_k):
    rng = np.random.default_rng(seed)
    gallery = LabelledVectors(rng.integers(0, 3, (12, 2)) * 1.0, rng.choice(list("abc"), 12))
    asked = LabelledVectors(rng.integers(0, 3, (4, 2)) * 1.0, rng.choice(list("abcx"), 4))
    scores = retrieve(gallery, {"test": asked}, top_k, "euclidean")["test"]
    for query, (vector, artist) in enumerate(zip(asked.vectors, asked.artists, strict=True)):
        # Squared whole numbers: ties are exact. The first in the gallery goes first.
        lengths = [(vector[0] - x) ** 2 + (vector[1] - y) ** 2 for x, y in gallery.vectors]
        order = sorted(range(12), key=lambda place, lengths=lengths: (lengths[place], place))
        hits = [gallery.artists[place] == artist for place in order]
        found = scores.average_precision[query], scores.recall_at_k[query]
        if not any(hits):
            assert np.isnan(found).all()
            continue
        assert found[0] == pytest.approx(brute_force_ap(hits))
        assert found[1] == pytest.approx(sum(hits[:top_k]) / sum(hits))
