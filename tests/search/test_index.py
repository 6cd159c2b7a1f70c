"""Nearest neighbours against SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from lorastyle.search import index
from lorastyle.search.index import StyleIndex


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_neighbours_are_those_of_brute_force(n, k, top_k, seed):
    rng = np.random.default_rng(seed)
    scores, query = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal(k)
    found = StyleIndex(scores).nearest(query, top_k)
    distances = cdist(query[None], scores.astype(np.float64))[0]
    expected = np.argsort(distances, kind="stable")[:top_k]
    np.testing.assert_array_equal(found.positions, expected)
    np.testing.assert_allclose(found.distances, distances[expected], rtol=1e-12)


def test_far_from_the_origin_near_ties_are_still_told_apart():
    rng = np.random.default_rng(1)
    # Float32 products about 1e6 lose differences of 1e-2: the exact measure decides.
    scores = (1e3 + np.arange(30)[:, None] * 1e-2 * np.ones(4)).astype(np.float32)
    order = rng.permutation(30)
    found = StyleIndex(scores[order]).nearest(scores[0], 3)
    assert set(order[found.positions]) <= set(range(12))


def test_equals_keep_their_order():
    found = StyleIndex(np.ones((5, 2))).nearest([1, 1], 3)
    assert found.positions.tolist() == [0, 1, 2] and not found.distances.any()


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    scores, query = rng.standard_normal((1000, 8)), rng.standard_normal(8)
    whole = StyleIndex(scores).nearest(query, 20)
    monkeypatch.setattr(index, "ROWS_AT_ONCE", 7)
    parts = StyleIndex(scores).nearest(query, 20)
    np.testing.assert_array_equal(parts.positions, whole.positions)


def test_spacing_is_the_median_distance_to_the_nearest():
    scores = np.array([[0.0], [1.0], [3.0], [9.0]])
    assert StyleIndex(scores).spacing() == pytest.approx(np.median([1, 1, 2, 6]))
    assert StyleIndex(scores[:1]).spacing() == 0
