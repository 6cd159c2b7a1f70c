from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_pass import compute_sums
from lorastyle.embedding.groups import Partition, groups_for
from lorastyle.embedding.spectrum import centred
from lorastyle.errors import ConfigError, StageError


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


def explicit(store, rows, names) -> np.ndarray:
    """Centred inner products of the parameters of these modules."""
    entries = [entry for entry in store.layout.entries if entry.module in names]
    columns = np.concatenate([np.arange(entry.offset, entry.stop) for entry in entries])
    own = store.read_rows(rows)[:, columns].astype(np.float64)
    own -= own.mean(axis=0)
    return own @ own.T


@pytest.mark.parametrize(
    ("expression", "held"),
    [
        ("block1.*", lambda module: "block1" in module),
        ("full-cross_attention", lambda module: "attn2" not in module),
        ("attention", lambda module: "attn" in module),
        ("to_q+ff_in", lambda module: "to_q" in module),
        (
            "feed_forward&block2.*+block0.attn1.to_q",
            lambda m: m in ("block2.ff.net.0", "block0.attn1.to_q"),
        ),
        ("full", lambda module: True),
    ],
)
@pytest.mark.parametrize("parts", ["modules", "atoms"])
def test_any_union_is_the_sum_of_its_groups(store, rows, tmp_path, expression, held, parts):
    layout = store.layout
    groups = groups_for(layout, layout.modules if parts == "modules" else [expression])
    sums = compute_sums(store, rows, groups=groups)
    partition = Partition.of(layout, groups)
    GramSet(store.table(), sums, groups_hold=partition).save(tmp_path)
    grams = GramSet.load(tmp_path)
    assert grams.sub_networks == ("full", "self_attention", "cross_attention", "feed_forward")
    assert grams.targets == layout.targets
    names = {module for module in layout.modules if held(module)}
    expected = explicit(store, rows, names)
    found = centred(grams.matrix("factors", expression))
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())
    widths = {target.name: target.in_features + target.out_features for target in layout.targets}
    expected_share = sum(widths[name] for name in names) / sum(widths.values())
    assert grams.share(expression) == pytest.approx(expected_share)
    assert grams.has("delta", expression) and not grams.has("delta@1", expression)
    np.testing.assert_array_equal(np.diagonal(grams.matrix("delta", expression)), 1)


def test_a_sub_network_that_would_cut_a_group_in_two_is_refused(grams, store, rows):
    known = replace(grams, groups_hold=Partition.of(store.layout, groups_for(store.layout, ())))
    for one in (grams, known):
        assert one.has("factors", "full-cross_attention")
        np.testing.assert_array_equal(
            one.matrix("factors", "full-cross_attention"),
            one.sums["factors"]["self_attention"] + one.sums["factors"]["feed_forward"],
        )
    assert not known.has("factors", "to_q&block1.*")
    with pytest.raises(StageError, match=r"no union of the 3 groups .* sweep.sub_networks"):
        known.matrix("factors", "to_q&block1.*")
    assert not known.has("factors", "mid")
    with pytest.raises(StageError, match="factors/mid, which names none of the 9 modules"):
        known.matrix("factors", "mid")
    with pytest.raises(ConfigError, match="half"):
        known.matrix("factors", "half")


def test_matrices_of_an_earlier_version_answer_for_their_sub_networks(grams, tmp_path):
    """Version 2 did not say which modules a group holds."""
    grams.save(tmp_path)
    path = tmp_path / "grams" / "index.json"
    index = json.loads(path.read_text())
    del index["groups"], index["targets"]
    path.write_text(json.dumps({**index, "version": 2}))
    earlier = GramSet.load(tmp_path)
    assert earlier.digest() == grams.digest()
    assert earlier.has("delta", "attention") and not earlier.has("delta", "mid")
    assert math.isnan(earlier.share("attention"))


def test_single_modules_of_an_earlier_version_are_known_by_their_names(store, rows):
    groups = groups_for(store.layout, store.layout.modules)
    named = {
        f"{modules[0].entry_a.sub_network}/{modules[0].name}": modules
        for modules in groups.values()
    }
    grams = GramSet(store.table(), compute_sums(store, rows, groups=named))
    expected = explicit(store, rows, {"block1.ff.net.0", "block1.attn1.to_q"})
    found = centred(grams.matrix("factors", "block1.*-cross_attention"))
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())


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
    with pytest.raises(StageError, match="no Gram matrix for delta@2/full, only for factors, d"):
        grams.matrix("delta@2", "full")
    with pytest.raises(StageError, match=r"1 rows are not among the 17 embedded .* first row 2"):
        grams.positions([1, 2])
    with pytest.raises(StageError, match="run `lorastyle embed RUN` first"):
        GramSet.load(tmp_path / "nothing")


def test_positions_follow_store_rows(grams):
    np.testing.assert_array_equal(grams.positions([5, 1, 33]), [2, 0, 16])
