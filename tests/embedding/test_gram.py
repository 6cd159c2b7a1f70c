from __future__ import annotations

import numpy as np
import pytest

from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_pass import compute_sums
from lorastyle.errors import StageError


@pytest.fixture
def grams(store, rows) -> GramSet:
    return GramSet(store.table(), compute_sums(store, rows))


def test_the_whole_network_is_the_sum_of_its_sub_networks(grams, vectors):
    about_mean = vectors - vectors.mean(axis=0, dtype=np.float64)
    expected = about_mean @ about_mean.T
    found = grams.matrix("factors", "full")
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


def test_delta_is_the_cosine_of_whole_updates_not_a_mean_of_cosines(grams, store, vectors):
    factors = store.layout.unflatten(vectors.astype(np.float64))
    updates = np.concatenate(
        [
            (factors[module, "B"] @ factors[module, "A"]).reshape(len(vectors), -1)
            for module in store.layout.modules
        ],
        axis=1,
    )
    updates /= np.linalg.norm(updates, axis=1, keepdims=True)
    np.testing.assert_allclose(grams.matrix("delta", "full"), updates @ updates.T, atol=1e-6)
    for sub_network in grams.sub_networks:
        cosines = grams.matrix("delta", sub_network)
        np.testing.assert_array_equal(np.diagonal(cosines), 1.0)
        assert np.abs(cosines).max() <= 1 + 1e-9


def test_saved_matrices_come_back_bit_by_bit(grams, tmp_path):
    grams.save(tmp_path / "embedding")
    loaded = GramSet.load(tmp_path / "embedding")
    assert loaded.digest() == grams.digest()
    assert loaded.representations == ("factors", "delta")
    assert loaded.sub_networks == ("full", "self_attention", "cross_attention", "feed_forward")
    np.testing.assert_array_equal(loaded.rows, grams.rows)
    for sub_network in loaded.sub_networks:
        expected = grams.matrix("delta", sub_network)
        np.testing.assert_array_equal(loaded.matrix("delta", sub_network), expected)


def test_what_was_not_embedded_is_refused_in_a_sentence(grams, tmp_path):
    with pytest.raises(StageError, match="no Gram matrix for delta/half, only for factors, delta"):
        grams.matrix("delta", "half")
    with pytest.raises(StageError, match=r"1 rows are not among the 17 embedded .* first row 2"):
        grams.positions([1, 2])
    with pytest.raises(StageError, match="run `lorastyle embed RUN` first"):
        GramSet.load(tmp_path / "nothing")


def test_positions_follow_store_rows(grams):
    np.testing.assert_array_equal(grams.positions([5, 1, 33]), [2, 0, 16])
