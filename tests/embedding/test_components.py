from __future__ import annotations

import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from sklearn.decomposition import PCA

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.embedding import components
from lorastyle.embedding.components import project_with_components, write_components
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.gram_pass import compute_sums, cross_of, gram_of
from lorastyle.embedding.style_space import StyleSpace, build_space
from lorastyle.errors import StageError
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors, UnionVectors

ROLES = ["train"] * 5 + ["test"]
ARTISTS = ("anna", "bela", "chen")


@pytest.fixture(scope="module")
def store(tmp_path_factory, layout) -> AdapterStore:
    """Three artists' adapters around a common start far from zero."""
    path = tmp_path_factory.mktemp("components") / "adapters.zarr"
    count = len(ARTISTS) * len(ROLES)
    store = AdapterStore.create(path, layout, base={}, alpha=1.0, n_rows=count, init={})
    rng = np.random.default_rng(5)
    start = 30 * rng.standard_normal(layout.size)
    styles = {artist: 3 * rng.standard_normal(layout.size) for artist in ARTISTS}
    specs = [(artist, i) for artist in ARTISTS for i in range(len(ROLES))]
    for row, (artist, i) in enumerate(specs):
        vector = start + styles[artist] + rng.standard_normal(layout.size)
        spec = {
            "adapter_id": f"{artist}-{i}",
            "artist": artist,
            "genre": "still life",
            "role": ROLES[i],
            "index": i,
        }
        store.commit(row, vector.astype(np.float32), spec, {})
    return store


def space_of(store: AdapterStore, sub_network: str, representation: str = "factors") -> StyleSpace:
    table = store.table()
    sums = compute_sums(store, table["row"].to_numpy(), [representation])
    grams = GramSet(table, sums)
    return build_space(grams, None, "clustering", representation, sub_network, n_calibration=1)


def vectors_of(store: AdapterStore, space: StyleSpace, rows: np.ndarray) -> np.ndarray:
    on_disk = UnionVectors.of(store, rows, space.sub_network)
    return on_disk.read(slice(0, on_disk.shape[1]))


@pytest.fixture(scope="module")
def space(store) -> StyleSpace:
    return space_of(store, "feed_forward")


@pytest.fixture
def path(store, space, tmp_path):
    write_components(store, space, tmp_path / "components.zarr", memory_gib=1e-5)
    return tmp_path / "components.zarr"


@pytest.mark.parametrize("sub_network", ["full", "self_attention", "full-cross_attention"])
@pytest.mark.parametrize("memory_gib", [1e-5, 1.0])
def test_they_are_sklearns_and_of_any_zarr_reader(store, tmp_path, sub_network, memory_gib):
    space = space_of(store, sub_network)
    write_components(store, space, tmp_path / "there" / "c.zarr", memory_gib=memory_gib)
    group = zarr.open_group(tmp_path / "there" / "c.zarr", mode="r")
    found = group["components"][:]
    assert found.dtype == np.float32
    fit = vectors_of(store, space, space.fit_rows).astype(np.float64)
    expected = PCA(space.n_components, svd_solver="full").fit(fit).components_
    signs = np.sign((found * expected).sum(axis=1, keepdims=True))
    # Float32 products turn components of like variance into one another a little.
    np.testing.assert_allclose(found * signs, expected, atol=2e-5)
    assert (group["components"].chunks[1] < found.shape[1]) == (memory_gib < 1)
    assert group.attrs["sub_network"] == sub_network


@pytest.mark.parametrize("calibrated", [True, False])
def test_both_projections_of_unseen_adapters_agree(store, space, path, calibrated):
    rows = space.rows("test")
    expected = space.scores(rows, calibrated=calibrated)
    tolerance = 1e-5 * np.abs(expected).max()
    unseen = vectors_of(store, space, rows)
    for vectors in (
        unseen,
        unseen.astype(np.float64),
        da.from_array(unseen, chunks=(1, -1)),
        AdapterVectors.of(store, rows, "feed_forward"),
    ):
        found = project_with_components(path, vectors, calibrated=calibrated, memory_gib=1e-4)
        np.testing.assert_allclose(found, expected, atol=tolerance)
    # Products about the fit adapters' own origin, not that of all adapters' Gram matrix.
    fit = AdapterVectors.of(store, space.fit_rows, "feed_forward")
    by_products = space.project(
        cross_of(fit, unseen), fit_means=gram_of(fit).mean(axis=0), calibrated=calibrated
    )
    np.testing.assert_allclose(by_products, expected, atol=tolerance)


def test_nobody_unseen_means_no_scores(store, space, path):
    width = AdapterVectors.of(store, [0], "feed_forward").shape[1]
    empty = np.zeros((0, width), np.float32)
    assert project_with_components(path, empty).shape == (0, space.n_components)


def test_the_same_bits_with_every_scheduler(store, space, path, tmp_path):
    write_components(store, space, tmp_path / "other", memory_gib=1e-5, scheduler=dask.get)
    here, there = zarr.open_group(path, mode="r"), zarr.open_group(tmp_path / "other", mode="r")
    for name in ("components", "offset", "scale", "shift"):
        np.testing.assert_array_equal(here[name][:], there[name][:])


def test_a_pass_that_dies_leaves_what_was_there(store, space, path, monkeypatch):
    before = zarr.open_group(path, mode="r")["components"][:]
    written = []

    def dies(*arguments):
        written.append(1)
        if len(written) >= 3:
            raise OSError("no space left on device")
        return write_chunk(*arguments)

    write_chunk = components._write_chunk
    monkeypatch.setattr(components, "_write_chunk", dies)
    for target in (path, path.with_name("new")):
        written.clear()
        with pytest.raises(OSError, match="no space left"):
            write_components(store, space, target, memory_gib=1e-5)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["components"][:], before)


def test_components_are_replaced_other_things_are_not(store, space, path):
    write_components(store, space, path)
    (path.parent / "notes").mkdir()
    with pytest.raises(StageError, match="notes has no components of a style space"):
        write_components(store, space, path.parent / "notes")
    with pytest.raises(StageError, match="has no components of a style space; write them"):
        project_with_components(path.parent / "nothing", np.ones((1, 5)))
    zarr.create_group(path.parent / "later", attributes={"format": "x", "version": 9})
    with pytest.raises(StageError, match="is 'x' version 9, this release reads"):
        project_with_components(path.parent / "later", np.ones((1, 5)))
    with pytest.raises(StageError, match=r"shape \(1, 5\), the components .* give vectors \(m, "):
        project_with_components(path, np.ones((1, 5)))


def test_a_kernel_has_no_components(store, tmp_path):
    with pytest.raises(StageError, match="a space of 'delta' has no components"):
        write_components(store, space_of(store, "full", "delta"), tmp_path / "c")


def test_another_store_s_adapters_are_noticed(store, space, layout, tmp_path):
    count = store.n_rows
    other = AdapterStore.create(
        tmp_path / "other.zarr", layout, base={}, alpha=1.0, n_rows=count, init={}
    )
    rng = np.random.default_rng(9)
    for row in range(count):
        other.commit(row, rng.standard_normal(layout.size).astype(np.float32), {"row": row}, {})
    with pytest.raises(StageError, match="are not those that the space was fitted on"):
        write_components(other, space, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_second_pass_keeps_to_its_memory(tmp_path):
    """30 adapters are 18 MiB and their components 6; the pass is given 6."""
    modules = [TargetModule(f"b{i}.ff", "feed_forward", 5000, 5000) for i in range(4)]
    layout = AdapterLayout.of_modules(4, modules)
    store = AdapterStore.create(tmp_path / "a.zarr", layout, base={}, alpha=1.0, n_rows=30, init={})
    rng = np.random.default_rng(0)
    for row in range(30):
        spec = {"artist": str(row % 3), "role": "train", "index": row}
        store.commit(row, rng.standard_normal(layout.size, np.float32), spec, {})
    space = build_space(
        GramSet(store.table(), compute_sums(store, np.arange(30), ["factors"])),
        n_calibration=0,
        max_components=10,
    )
    tracemalloc.start()
    write_components(store, space, tmp_path / "c.zarr", memory_gib=6 / 1024)
    project_with_components(
        tmp_path / "c.zarr", AdapterVectors.of(store, range(9)), memory_gib=6 / 1024
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20
