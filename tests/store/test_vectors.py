"""Rows and columns of a store as matrices: against the whole matrix in memory."""

import numpy as np
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.errors import ConfigError, StoreError
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors, UnionVectors

MODULES = [
    TargetModule(f"{block}.attn1.to_{kind}", "self_attention", width, width)
    for block, width in (("down_blocks.0", 6), ("mid_block", 9), ("up_blocks.1", 6))
    for kind in "qv"
] + [TargetModule("mid_block.ff.net.2", "feed_forward", 9, 36)]
LAYOUT = AdapterLayout.of_modules(2, MODULES)


@pytest.fixture
def everything() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((4, LAYOUT.size)).astype(np.float32)


@pytest.fixture
def store(tmp_path, everything) -> AdapterStore:
    store = AdapterStore.create(
        tmp_path / "adapters.zarr", LAYOUT, base={}, alpha=1.0, n_rows=4, init={}
    )
    for row, vector in enumerate(everything):
        store.commit(row, vector, {"adapter_id": f"a{row}"}, {})
    return store


def columns_of(*names: str) -> np.ndarray:
    """From the factors of single modules, which unflatten gives."""
    factors = LAYOUT.unflatten(np.arange(LAYOUT.size, dtype=np.float32))
    chosen = [value.ravel() for key, value in factors.items() if key[0] in names]
    return np.concatenate(chosen).astype(np.int64)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("mid", ("mid_block.attn1.to_q", "mid_block.attn1.to_v", "mid_block.ff.net.2")),
        ("to_v", ("down_blocks.0.attn1.to_v", "mid_block.attn1.to_v", "up_blocks.1.attn1.to_v")),
        ("full-self_attention", ("mid_block.ff.net.2",)),
    ],
)
def test_unions_are_columns_side_by_side(store, everything, expression, names):
    rows = [3, 0, 2]
    union = UnionVectors.of(store, rows, expression)
    expected = everything[rows][:, columns_of(*names)]
    width = expected.shape[1]
    assert union.shape == expected.shape and len(union) == 3
    np.testing.assert_array_equal(union.read(slice(0, width)), expected)
    for part in (slice(0, 5), slice(7, width), slice(20, 60)):
        np.testing.assert_array_equal(union.read(part, slice(1, 3)), expected[1:3, part])


def test_one_range_is_a_plain_matrix(store, everything):
    vectors = AdapterVectors.of(store, [1], "feed_forward")
    expected = everything[1:2, columns_of("mid_block.ff.net.2")]
    np.testing.assert_array_equal(vectors.read(slice(0, vectors.shape[1])), expected)
    assert UnionVectors.of(store, [1], "full").parts == (AdapterVectors.of(store, [1]),)


def test_what_is_no_range_is_refused(store):
    with pytest.raises(StoreError, match=r"to_v .* 3 ranges, not one"):
        AdapterVectors.of(store, [0], "to_v")
    for kind in (AdapterVectors, UnionVectors):
        with pytest.raises(StoreError, match="no cross_attention modules, only self_attention"):
            kind.of(store, [0], "cross_attention")
        with pytest.raises(ConfigError, match="feed_forwards"):
            kind.of(store, [0], "feed_forwards")
