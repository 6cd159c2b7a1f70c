from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest

from lorastyle.embedding.products import (
    as_dask,
    block_products,
    column_blocks,
    combine_block,
    compute,
    products,
)
from lorastyle.embedding.spectrum import centred
from lorastyle.store.vectors import AdapterVectors

N, M, P = 12, 5, 700
CHUNKINGS = [(12, 700), (12, 64), (1, 700), (5, 33)]


@pytest.fixture(scope="module")
def fit() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, P)) + 3


@pytest.fixture(scope="module")
def others() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((M, P)) + 3


def test_products_are_about_the_mean_or_about_zero(fit, others):
    mean = fit.mean(axis=0)
    np.testing.assert_allclose(products(fit), (fit - mean) @ (fit - mean).T, atol=1e-10)
    expected = (others - mean) @ (fit - mean).T
    np.testing.assert_allclose(products(fit, others, 100), expected, atol=1e-10)
    np.testing.assert_allclose(products(fit, centre=False), fit @ fit.T, rtol=1e-12)
    found = products(fit, others, 64, centre=False)
    np.testing.assert_allclose(found, others @ fit.T, rtol=1e-12)


@pytest.mark.parametrize("chunks", CHUNKINGS)
@pytest.mark.parametrize("centre", [True, False])
def test_dask_in_any_chunks_gives_numpys_bits(fit, others, chunks, centre):
    lazy, beside = da.from_array(fit, chunks=chunks), da.from_array(others, chunks=(2, 90))
    whole = products(lazy, beside, centre=centre)
    np.testing.assert_array_equal(whole, products(fit, others, centre=centre))
    np.testing.assert_array_equal(products(lazy, others, centre=centre), whole)


@pytest.mark.parametrize("chunks", CHUNKINGS)
@pytest.mark.parametrize("centre", [True, False])
def test_blocks_are_added_up_in_one_order(fit, others, chunks, centre):
    """Of 44 blocks: more than two levels of the tree, and chunks both wider and narrower."""
    lazy, beside = da.from_array(fit, chunks=chunks), da.from_array(others, chunks=(2, 90))
    settings = {"block_columns": 16, "centre": centre}
    expected = products(fit, others, **settings)
    np.testing.assert_array_equal(products(lazy, beside, **settings), expected)
    np.testing.assert_array_equal(products(lazy, **settings), products(fit, **settings))


def layouts(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers, in other places."""
    n, p = matrix.shape
    wider, sparser = np.zeros((n, p + 37), matrix.dtype), np.zeros((2 * n, p), matrix.dtype)
    wider[:, 5 : 5 + p], sparser[::2] = matrix, matrix
    return {
        "column by column": np.asfortranarray(matrix),
        "a slice": wider[:, 5 : 5 + p],
        "every other row": sparser[::2],
        "last row first": np.ascontiguousarray(matrix[::-1])[::-1],
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize(("n", "p"), [(2, 70), (9, 1000), (17, 3), (40, 1000), (7, 1)])
def test_no_layout_in_memory_changes_a_bit(n, p, centre, dtype):
    rng = np.random.default_rng(2)
    block, others, weights = (
        rng.standard_normal(shape).astype(dtype) + 3 for shape in ((n, p), (5, p), (6, n))
    )
    expected = [
        block_products(block, centre=centre),
        block_products(block, others, centre=centre),
        combine_block(block, weights, centre),
    ]
    for name, same in layouts(block).items():
        found = [
            block_products(same, centre=centre),
            block_products(same, layouts(others)[name], centre=centre),
            combine_block(same, weights, centre),
        ]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("centre", [True, False])
def test_float32_far_from_zero_keeps_the_spread(fit, centre):
    far = (fit + 1e4).astype(np.float32)
    exact = far.astype(np.float64)
    spread = np.square(exact - exact.mean(axis=0)).sum()
    found, expected = products(far, centre=centre), products(exact, centre=centre)
    if centre:  # the origin, a float32 mean, may be off in the last bit
        found, expected = centred(found), centred(expected)
    assert np.abs(found - expected).max() < 1e-6 * spread
    raw = np.asarray(far @ far.T, np.float64)
    assert np.abs(raw - exact @ exact.T).max() > 1e-2 * spread


def test_wide_chunks_are_read_a_slice_at_a_time():
    """Whole rows as chunks are what opening a store of rows gives by default."""

    class Source:
        shape, dtype, ndim = (N, P), np.dtype(np.float64), 2
        widest = 0

        def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
            part = np.ones(self.shape)[key]
            self.widest = max(self.widest, part.size)
            return part

    source = Source()
    rows = da.from_array(source, chunks=(1, P), meta=np.empty((0, 0)))
    gram = products(rows, block_columns=50, centre=False, scheduler=dask.get)
    np.testing.assert_allclose(gram, P)
    assert source.widest == 50


def test_a_store_is_the_same_matrix_read_in_blocks(store, vectors, rows):
    on_disk = AdapterVectors.of(store, rows[2:], "feed_forward")
    (columns,) = store.layout.columns("feed_forward")
    lazy = as_dask(on_disk, 50)
    assert lazy.chunks[1][0] == 50
    np.testing.assert_array_equal(compute(lazy), vectors[2:, columns])
    expected = products(vectors[2:, columns], block_columns=50)
    np.testing.assert_allclose(products(on_disk, block_columns=50), expected, rtol=1e-12)


def test_the_scheduler_that_is_set_or_given_computes():
    used = []

    def watched(graph, keys, **options):
        used.append(len(keys))
        return dask.get(graph, keys, **options)

    lazy = da.ones((4, 6), chunks=(2, 3))
    products(lazy, scheduler=watched)
    with dask.config.set(scheduler=watched):
        products(lazy)
    assert len(used) == 2


def test_column_blocks_cover_every_column_once():
    assert list(column_blocks(10, 4)) == [slice(0, 4), slice(4, 8), slice(8, 10)]
