from __future__ import annotations

import numpy as np
import pytest

from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_pass import compute_sums
from lorastyle.embedding.groups import module_groups
from lorastyle.embedding.spectrum import centred
from lorastyle.errors import StageError


@pytest.fixture
def grams(store, rows) -> GramSet:
    return GramSet(store.table(), compute_sums(store, rows))


def test_the_whole_network_is_the_sum_of_its_sub_networks(grams, vectors):
    about_mean = vectors - vectors.mean(axis=0, dtype=np.float64)
    expected = about_mean @ about_mean.T
    found = centred(grams.matrix("factors", "full"))
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())


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


def test_matrices_of_modules_answer_for_their_sub_networks_and_any_union(store, rows, tmp_path):
    sums = compute_sums(store, rows, groups=module_groups(store.layout))
    GramSet(store.table(), sums).save(tmp_path)
    grams = GramSet.load(tmp_path)
    assert grams.sub_networks == ("full", "self_attention", "cross_attention", "feed_forward")
    union = grams.union("factors", [name for name in grams.groups if "block1" in name])
    assert len([name for name in grams.groups if "block1" in name]) == 3
    modules = [entry for entry in store.layout.entries if "block1" in entry.module]
    columns = np.concatenate([np.arange(entry.offset, entry.stop) for entry in modules])
    own = store.read_rows(rows)[:, columns].astype(np.float64)
    own -= own.mean(axis=0)
    expected = own @ own.T
    np.testing.assert_allclose(centred(union), expected, atol=1e-6 * expected.max())


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"PK\x03\x04 a pickle or a zip"])
def test_damaged_matrices_are_named(grams, tmp_path, damage):
    grams.save(tmp_path)
    (tmp_path / "grams" / "delta.feed_forward.npy").write_bytes(damage)
    with pytest.raises(StageError, match="cannot be read"):
        GramSet.load(tmp_path)


def test_saving_again_replaces_everything(grams, tmp_path):
    grams.save(tmp_path)
    GramSet(grams.table, {"delta": grams.sums["delta"]}).save(tmp_path)
    assert GramSet.load(tmp_path).representations == ("delta",)
    assert [path.name for path in tmp_path.iterdir()] == ["grams"]
    assert not list((tmp_path / "grams").glob("factors*"))


def test_what_was_not_embedded_is_refused_in_a_sentence(grams, tmp_path):
    with pytest.raises(StageError, match="no Gram matrix for delta/half, only for factors, delta"):
        grams.matrix("delta", "half")
    with pytest.raises(StageError, match=r"1 rows are not among the 17 embedded .* first row 2"):
        grams.positions([1, 2])
    with pytest.raises(StageError, match="run `lorastyle embed RUN` first"):
        GramSet.load(tmp_path / "nothing")


def test_positions_follow_store_rows(grams):
    np.testing.assert_array_equal(grams.positions([5, 1, 33]), [2, 0, 16])
