from __future__ import annotations

import time
import tracemalloc

import dask
import numpy as np
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.embedding import blocks, summing
from lorastyle.embedding.blocks import origin_rows
from lorastyle.embedding.gram_pass import compute_sums, cross_of, gram_of
from lorastyle.embedding.groups import groups_for
from lorastyle.embedding.share import Share
from lorastyle.embedding.spectrum import centred
from lorastyle.embedding.spent import Spent
from lorastyle.errors import StageError, StoreError
from lorastyle.records import SUB_NETWORKS
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors

MEMORIES_GIB = [5e-5, 2e-4, 1.0]
"""From a few columns, or a tile of rows, at a time to everything at once."""


def explicit_updates(store, vectors, sub_network) -> np.ndarray:
    """Every update of a sub-network formed, side by side: (n, sum of out in)."""
    factors = store.layout.unflatten(vectors.astype(np.float64))
    updates = [
        (factors[entry.module, "B"] @ factors[entry.module, "A"]).reshape(len(vectors), -1)
        for entry in store.layout.entries
        if entry.factor == "A" and sub_network in ("full", entry.sub_network)
    ]
    return store.scaling * np.concatenate(updates, axis=1)


@pytest.mark.parametrize("memory_gib", MEMORIES_GIB)
def test_factor_sums_equal_brute_force_for_every_block_size(store, vectors, rows, memory_gib):
    sums = compute_sums(store, rows, ["factors"], memory_gib=memory_gib)["factors"]
    assert tuple(sums) == SUB_NETWORKS
    for sub_network, gram in sums.items():
        (columns,) = store.layout.columns(sub_network)
        about_mean = vectors[:, columns].astype(np.float64)
        about_mean -= about_mean.mean(axis=0)
        expected = about_mean @ about_mean.T
        np.testing.assert_allclose(centred(gram), expected, atol=1e-6 * expected.max())
        np.testing.assert_array_equal(gram, gram.T)
        assert gram.dtype == np.float64


@pytest.mark.parametrize("memory_gib", MEMORIES_GIB)
def test_delta_sums_equal_brute_force_for_every_tile_size(store, vectors, rows, memory_gib):
    sums = compute_sums(store, rows, ["delta"], memory_gib=memory_gib)["delta"]
    for sub_network, gram in sums.items():
        updates = explicit_updates(store, vectors, sub_network)
        expected = updates @ updates.T
        np.testing.assert_allclose(gram, expected, rtol=2e-6, atol=2e-6 * expected.max())
        np.testing.assert_array_equal(gram, gram.T)


def test_any_subset_of_rows_centres_to_its_own_gram_matrix(store, vectors, rows):
    """One pass for all roles: a split is a slice, whatever mean was taken off before."""
    gram = compute_sums(store, rows, ["factors"])["factors"]["feed_forward"]
    subset = [0, 3, 4, 8, 11]
    (columns,) = store.layout.columns("feed_forward")
    own = vectors[subset][:, columns].astype(np.float64)
    own -= own.mean(axis=0)
    found = centred(gram[np.ix_(subset, subset)])
    np.testing.assert_allclose(found, own @ own.T, atol=1e-5 * found.max())


def test_the_result_is_the_same_bits_with_every_scheduler(store, rows):
    threads = compute_sums(store, rows)
    alone = compute_sums(store, rows, scheduler=dask.get)
    for representation, sums in threads.items():
        for sub_network, gram in sums.items():
            np.testing.assert_array_equal(gram, alone[representation][sub_network])


@pytest.mark.parametrize("chunk", [5, 64, 462])
def test_many_small_segments_cover_every_column_once(store, vectors, rows, monkeypatch, chunk):
    whole = compute_sums(store, rows)
    monkeypatch.setattr(AdapterStore, "block", chunk)
    monkeypatch.setattr(blocks, "MAX_SEGMENTS", 40)
    for representation, sums in compute_sums(store, rows).items():
        for sub_network, gram in sums.items():
            expected = whole[representation][sub_network]
            np.testing.assert_allclose(gram, expected, rtol=1e-5, atol=1e-5 * expected.max())


@pytest.mark.parametrize("representation", ["factors", "delta"])
@pytest.mark.parametrize("n_kept", [1, 9, 16])
def test_strips_of_new_rows_are_the_last_rows_of_the_whole(store, rows, representation, n_kept):
    origin = origin_rows(rows)
    whole = compute_sums(store, rows, [representation], origin=origin)
    strips = compute_sums(store, rows, [representation], origin=origin, n_kept=n_kept)
    for sub_network, strip in strips[representation].items():
        expected = whole[representation][sub_network][n_kept:]
        assert strip.shape == (len(rows) - n_kept, len(rows))
        np.testing.assert_allclose(strip, expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_modules_add_up_to_their_sub_network(store, rows):
    by_module = compute_sums(store, rows, groups=groups_for(store.layout, store.layout.modules))
    whole = compute_sums(store, rows)
    for representation, sums in whole.items():
        for sub_network, gram in sums.items():
            parts = [g for n, g in by_module[representation].items() if n.startswith(sub_network)]
            assert len(parts) == 3
            np.testing.assert_allclose(sum(parts), gram, rtol=1e-5, atol=1e-6 * gram.max())


@pytest.mark.parametrize("sub_network", ["full", "cross_attention"])
def test_cross_products_are_about_the_origin_of_the_fit_rows(store, vectors, rows, sub_network):
    """Read from the same store or given as an array: the rows of one larger Gram matrix."""
    fit = AdapterVectors.of(store, rows[:11], sub_network)
    held_out = AdapterVectors.of(store, rows[11:], sub_network)
    origin = np.median(vectors[np.searchsorted(rows, origin_rows(fit.rows))], axis=0)
    about = (vectors - origin)[:, fit.columns].astype(np.float64)
    largest = np.abs(about @ about.T).max()
    np.testing.assert_allclose(gram_of(fit), about[:11] @ about[:11].T, atol=1e-6 * largest)
    expected = about[11:] @ about[:11].T
    given = vectors[11:, fit.columns]
    np.testing.assert_allclose(cross_of(fit, held_out), expected, atol=1e-6 * largest)
    np.testing.assert_array_equal(cross_of(fit, given), cross_of(fit, held_out))
    few = cross_of(fit, given, memory_gib=5e-5, scheduler=dask.get)
    np.testing.assert_allclose(few, expected, atol=1e-6 * largest)


def test_memory_that_does_not_hold_the_matrices_is_refused_with_what_would(store, rows):
    with pytest.raises(StageError, match=r"1e-06 GiB are too little .* 17 adapters; .*4.7e-05GiB"):
        compute_sums(store, rows, memory_gib=1e-6)
    compute_sums(store, rows, memory_gib=4.7e-5)


def test_a_damaged_row_stops_the_pass_and_is_named(store, rows):
    with pytest.raises(StoreError, match="row 2 has no weights"):
        compute_sums(store, np.append(rows, 2))


def test_an_unknown_representation_is_refused(store, rows):
    with pytest.raises(StageError, match="'vibes'; choose from factors, delta"):
        compute_sums(store, rows, ["vibes"])


@pytest.mark.parametrize("representation", ["factors", "delta"])
def test_the_pass_keeps_to_its_memory(tmp_path, representation):
    """30 adapters are 46 MiB here; the pass is given 16, and its threads read chunks besides."""
    modules = [TargetModule(f"b{i}.ff", "feed_forward", 5000, 5000) for i in range(10)]
    layout = AdapterLayout.of_modules(4, modules)
    store = AdapterStore.create(
        tmp_path / "adapters.zarr", layout, base={}, alpha=1.0, n_rows=30, init={}
    )
    rng = np.random.default_rng(0)
    for row in range(30):
        store.commit(row, rng.standard_normal(layout.size, np.float32), {"row": row}, {})
    tracemalloc.start()
    compute_sums(store, np.arange(30), [representation], memory_gib=16 / 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 18 * 2**20


@pytest.mark.parametrize("n_workers", [1, 3])
def test_parts_are_added_up_as_they_come_and_do_not_pile_up(monkeypatch, n_workers):
    """Dask by itself would add up last: all parts in memory, and nothing saved when killed."""
    events: list[str] = []
    add = summing._add

    def part(spent: Spent) -> np.ndarray:
        time.sleep(0.002)
        events.append("part")
        return np.ones((2, 2))

    def noted_add(*arguments):
        events.append("added")
        return add(*arguments)

    monkeypatch.setattr(summing, "_add", noted_add)
    tasks = {name: [part] * 10 for name in "abc"}
    sums = summing.sum_tasks(tasks, Share(n_workers, 2**20), None)
    waiting = np.cumsum([1 if event == "part" else -1 for event in events])
    assert waiting.max() <= n_workers + 1
    assert all((gram == 10).all() for gram in sums.values())
