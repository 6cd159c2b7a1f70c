"""Against scikit-learn's KMeans: the labels are the same, the centroids to rounding."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from lorastyle.errors import TooFewAdaptersError
from lorastyle.evaluation import kmeans
from lorastyle.evaluation.kmeans import k_means

SEEDS = range(4)


def assert_equals_scikit_learn(vectors, n_clusters, seeds=SEEDS):
    found = k_means(vectors, n_clusters, seeds)
    scale = np.abs(vectors).max(initial=1e-300)
    for seed, labels, centroids in zip(seeds, found.labels, found.centroids, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = KMeans(n_clusters, n_init=1, random_state=seed).fit(vectors)
        np.testing.assert_array_equal(labels, expected.labels_)
        np.testing.assert_allclose(centroids, expected.cluster_centers_, rtol=0, atol=1e-12 * scale)


@st.composite
def problems(draw, values):
    n = draw(st.integers(2, 40))
    width = draw(st.integers(1, 6))
    vectors = values(np.random.default_rng(draw(st.integers(0, 10_000))), (n, width))
    return vectors, draw(st.integers(1, n))


def normal(rng, shape):
    return rng.normal(size=shape) * 10.0 ** rng.integers(-6, 7)


def whole(rng, shape):
    return rng.integers(-2, 3, shape).astype(float)


def repeated(rng, shape):
    return normal(rng, shape)[rng.integers(0, max(1, shape[0] // 2), shape[0])]


def far_from_zero(rng, shape):
    return rng.normal(size=shape) + 1e5 * rng.normal(size=shape[1])


def clustered(rng, shape):
    centres = rng.normal(size=(4, shape[1]))
    return centres[rng.integers(0, 4, shape[0])] + 0.05 * rng.normal(size=shape)


@pytest.mark.parametrize("values", [normal, whole, repeated, far_from_zero, clustered])
def test_labels_and_centroids_equal_scikit_learns(values):
    @settings(max_examples=25, deadline=None)
    @given(problems(values))
    def holds(problem):
        assert_equals_scikit_learn(*problem)

    holds()


def planted(n_artists=12, each=8, width=10, seed=0, spread=0.8):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_artists, width))
    return np.repeat(centres, each, axis=0) + spread * rng.normal(size=(n_artists * each, width))


@pytest.mark.parametrize("n_clusters", [1, 2, 12, 40, 96])
@pytest.mark.parametrize("width", [1, 3, 10])
def test_any_number_of_clusters_and_components(n_clusters, width):
    assert_equals_scikit_learn(planted()[:, :width], n_clusters)


@pytest.mark.parametrize("width", [3, 10])
def test_ordinary_vectors_need_no_help(monkeypatch, width):
    helped = []
    monkeypatch.setattr(kmeans, "_scikit_learns", _counted(helped))
    k_means(planted()[:, :width], 12, range(10))
    assert not helped


def test_two_lonely_points_are_as_good_a_start_each(monkeypatch):
    # Whichever of a far pair is taken, the other is left at the same distance.
    found = []
    monkeypatch.setattr(kmeans, "_scikit_learns", _counted(found))
    vectors = np.concatenate([planted()[:, :2], [[50.0, 50.0], [50.0, 51.0]]])
    assert_equals_scikit_learn(vectors, 3, range(10))
    assert found


def _counted(calls, original=kmeans._scikit_learns):
    def call(*arguments):
        calls.append(arguments)
        return original(*arguments)

    return call


def test_a_mixture_where_clusters_run_empty_is_given_to_scikit_learn(monkeypatch):
    # Far points draw the starts; the many near ones then leave some of them alone.
    rng = np.random.default_rng(3)
    found = []
    monkeypatch.setattr(kmeans, "_scikit_learns", _counted(found))
    for width in (1, 2):
        for _ in range(40):
            vectors = rng.normal(size=(30, width)) ** 3
            assert_equals_scikit_learn(vectors, 10, range(6))
    assert found


def test_coinciding_vectors_are_given_to_scikit_learn():
    assert_equals_scikit_learn(np.ones((6, 2)), 3)
    assert_equals_scikit_learn(np.repeat([[0.0], [1.0]], 4, axis=0), 3)


def test_a_point_halfway_between_two_centroids_is_scikit_learns_to_decide(monkeypatch):
    found = []
    monkeypatch.setattr(kmeans, "_scikit_learns", _counted(found))
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    assert_equals_scikit_learn(grid, 6, range(10))
    assert found


def test_single_precision_that_cannot_tell_is_not_asked():
    # Two tight pairs far out: their distances differ in the eighth digit.
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(size=(30, 2)), 1e5 + 1e-3 * rng.normal(size=(30, 2))])
    assert_equals_scikit_learn(vectors, 5, range(10))


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1e20, 1e150])
def test_vectors_of_any_length_are_taken(scale):
    assert_equals_scikit_learn(scale * planted(), 12)


def test_what_is_no_number_is_refused():
    vectors = planted()
    vectors[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        k_means(vectors, 12, [0])


def test_seeds_are_answered_in_the_order_they_are_asked():
    vectors = planted()
    one = k_means(vectors, 12, [7])
    many = k_means(vectors, 12, [3, 7])
    np.testing.assert_array_equal(many.labels[1], one.labels[0])
    np.testing.assert_array_equal(many.centroids[1], one.centroids[0])


def test_more_points_than_fit_go_to_scikit_learn(monkeypatch):
    monkeypatch.setattr(kmeans, "MOST_POINTS", 50)
    assert_equals_scikit_learn(planted(), 12)


def test_vectors_in_any_memory_order_are_taken():
    assert_equals_scikit_learn(np.asfortranarray(planted())[::2], 6)


def test_fewer_vectors_than_clusters_are_refused():
    with pytest.raises(TooFewAdaptersError, match="2 adapters cannot make 3 clusters"):
        k_means(np.zeros((2, 2)), 3, [0])
