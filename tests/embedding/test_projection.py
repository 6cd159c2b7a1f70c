from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from lorastyle.embedding.calibration import Calibration
from lorastyle.embedding.groups import sub_network_groups
from lorastyle.embedding.projection import project_adapters
from lorastyle.embedding.spectrum import Spectrum
from lorastyle.embedding.style_space import StyleSpace, build_space
from lorastyle.embedding.update import Wanted, update_grams
from lorastyle.errors import StageError
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors, UnionVectors


@pytest.fixture
def store(tmp_path, layout, specs) -> AdapterStore:
    """The specs' 80 adapters about a mean far from zero, and five more that are not embedded."""
    store = AdapterStore.create(
        tmp_path / "adapters.zarr", layout, base={}, alpha=1.0, n_rows=len(specs) + 5, init={}
    )
    rng = np.random.default_rng(0)
    for row in range(len(specs) + 5):
        spec = specs[row] if row < len(specs) else {"adapter_id": f"new{row}"}
        vector = 20 + rng.standard_normal(layout.size)
        store.commit(row, vector.astype(np.float32), spec, {})
    return store


def make_space(store, specs, directory, representation, sub_network) -> StyleSpace:
    table = store.table().head(len(specs))
    checksums = [store.record(int(row)).checksum for row in table["row"]]
    wanted = Wanted(store, table, checksums, [representation], sub_network_groups(store.layout))
    grams = update_grams(wanted, directory).grams
    space = build_space(grams, None, "retrieval", representation, sub_network)
    space.save(directory / "space.npz")
    return StyleSpace.load(directory / "space.npz")


@pytest.mark.parametrize("sub_network", ["full", "cross_attention"])
def test_unseen_adapters_are_placed_where_sklearn_places_them(store, specs, tmp_path, sub_network):
    """From the store or as an array, by a space that was saved and read again."""
    space = make_space(store, specs, tmp_path, "factors", sub_network)
    fit = AdapterVectors.of(store, space.fit_rows, sub_network)
    new = AdapterVectors.of(store, range(len(specs), len(specs) + 5), sub_network)

    def read(vectors: AdapterVectors) -> np.ndarray:
        return vectors.read(slice(0, vectors.shape[1])).astype(np.float64)

    reference = PCA(svd_solver="full").fit(read(fit))
    signs = np.sign((reference.transform(read(fit))[:, :20] * space.pca.scores_[:, :20]).sum(0))
    expected = reference.transform(read(new))[:, :20] * signs
    for others in (new, read(new)):
        scores = project_adapters(store, space, others, calibrated=False)[:, :20]
        np.testing.assert_allclose(scores, expected, atol=2e-5 * np.abs(expected).max())
    calibrated = project_adapters(store, space, new)[:, :20]
    calibration = space.calibration
    by_hand = expected * calibration.scale[:20] + calibration.shift[:20]
    np.testing.assert_allclose(calibrated, by_hand, atol=1e-4 * np.abs(by_hand).max())


@pytest.mark.parametrize("expression", ["full-cross_attention", "to_q+to_k", "block1.*+*.attn2.*"])
def test_unions_of_columns_are_placed_where_sklearn_places_them(store, specs, tmp_path, expression):
    """The modules' columns are several ranges, between which others lie."""
    space = make_space(store, specs, tmp_path, "factors", "full")
    wanted = {
        "full-cross_attention": lambda name: "attn2" not in name,
        "to_q+to_k": lambda name: "attn" in name,
        "block1.*+*.attn2.*": lambda name: name.startswith("block1.") or "attn2" in name,
    }[expression]
    mask = np.zeros(store.size, bool)
    for entry in store.layout.entries:
        mask[entry.offset : entry.stop] = wanted(entry.module)
    fit, new = store.read_rows(space.fit_rows), store.read_rows(range(len(specs), len(specs) + 5))
    about = np.median(store.read_rows(space.origin), axis=0)
    points = (fit - about)[:, mask].astype(np.float64)
    spectrum = Spectrum(20).fit(points @ points.T)
    unit = Calibration.identity(20)
    union = dataclasses.replace(space, sub_network=expression, pca=spectrum, calibration=unit)
    reference = PCA(20, svd_solver="full").fit(fit[:, mask].astype(np.float64))
    signs = np.sign((reference.transform(fit[:, mask]) * spectrum.scores_).sum(0))
    expected = reference.transform(new[:, mask].astype(np.float64)) * signs
    stored = UnionVectors.of(store, range(len(specs), len(specs) + 5), expression)
    for others in (stored, new[:, mask]):
        scores = project_adapters(store, union, others)
        np.testing.assert_allclose(scores, expected, atol=2e-5 * np.abs(expected).max())


def test_embedded_adapters_are_placed_where_they_are(store, specs, tmp_path):
    space = make_space(store, specs, tmp_path, "factors", "full")
    test = space.rows("test")
    placed = project_adapters(store, space, AdapterVectors.of(store, test))
    expected = space.scores(test)
    np.testing.assert_allclose(placed[:, :20], expected[:, :20], atol=1e-4 * np.abs(expected).max())


def test_vectors_of_something_else_are_refused(store, specs, tmp_path):
    space = make_space(store, specs, tmp_path, "factors", "feed_forward")
    with pytest.raises(StageError, match=r"have length 7, the feed_forward network .* has 192"):
        project_adapters(store, space, np.zeros((1, 7)))
    delta = make_space(store, specs, tmp_path / "delta", "delta", "feed_forward")
    assert isinstance(delta.table, pd.DataFrame) and len(delta.origin) == 0
    with pytest.raises(StageError, match="space of 'delta'"):
        project_adapters(store, delta, np.zeros((1, 192)))
