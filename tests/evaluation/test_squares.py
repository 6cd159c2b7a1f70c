import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from lorastyle.evaluation.squares import Points, least, left_factor, nearest_centroids


def points(seed, n=20, width=5, scale=1.0, offset=0.0):
    vectors = scale * np.random.default_rng(seed).normal(size=(n, width)) + offset
    return Points(vectors, vectors.mean(axis=0))


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-8, 0), (1e8, 0), (1, 1e3)])
def test_squares_are_distances_within_the_bound(scale, offset):
    these = points(0, scale=scale, offset=offset)
    exact = cdist(these.centred, these.centred, "sqeuclidean")
    assert np.abs(these.squares - exact).max() <= these.rounding
    left, right = left_factor(these.centred).astype(np.float32), these.right_single
    assert (np.abs(left @ right - exact) <= these.rounding_single).all()
    assert these.rounding < 1e-10 * exact.max()


def test_the_least_of_each_column_and_its_rivals():
    squares = np.array([[1.0, 2.0, 0.0], [0.5, 2.05, 3.0]])
    labels, near = least(squares, 0.1)
    np.testing.assert_array_equal(labels[[0, 2]], [1, 0])
    np.testing.assert_array_equal(near, [[False, True, True], [True, True, False]])


@given(st.integers(1, 300), st.integers(0, 100))
def test_any_number_of_clusters_is_told_apart(n_clusters, seed):
    squares = np.random.default_rng(seed).permuted(
        np.tile(np.arange(n_clusters, dtype=float)[:, None], 7), axis=0
    )
    np.testing.assert_array_equal(least(squares, 0.0)[0], squares.argmin(axis=0))


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.booleans(), st.integers(0, 999))
def test_nearest_centroids_are_those_of_direct_distances(n_seeds, n_clusters, width, whole, seed):
    rng = np.random.default_rng(seed)
    shapes = (11, width), (n_seeds, n_clusters, width)
    vectors, centroids = (
        rng.integers(-2, 3, shape).astype(float) if whole else rng.normal(size=shape)
        for shape in shapes
    )
    expected = [cdist(vectors, each, "sqeuclidean").argmin(axis=1) for each in centroids]
    np.testing.assert_array_equal(nearest_centroids(vectors, centroids), expected)


def test_vectors_far_from_all_centroids_have_the_nearest_too():
    rng = np.random.default_rng(1)
    vectors, centroids = rng.normal(size=(50, 3)) + 1e6, rng.normal(size=(2, 6, 3))
    expected = [cdist(vectors, each, "sqeuclidean").argmin(axis=1) for each in centroids]
    np.testing.assert_array_equal(nearest_centroids(vectors, centroids), expected)
