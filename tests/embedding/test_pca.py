from __future__ import annotations

import tracemalloc

import dask.array as da
import numpy as np
import pytest
from sklearn.decomposition import PCA

from lorastyle.embedding.pca import GramPCA
from lorastyle.embedding.spectrum import Spectrum
from lorastyle.store.vectors import AdapterVectors

N, P = 40, 3000
CHUNKINGS = [(40, 3000), (40, 100), (1, 3000), (7, 450)]


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, N + 1) ** -0.7
    return (rng.standard_normal((N, N)) * spectrum) @ rng.standard_normal((N, P)) + 5.0


@pytest.fixture(scope="module")
def held_out() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((9, P)) + 5.0


def matrices() -> dict[str, np.ndarray]:
    """What PCA meets, and what numerical codes break on."""
    rng = np.random.default_rng(7)

    def normal(n: int, p: int) -> np.ndarray:
        return rng.standard_normal((n, p)) * np.arange(1, p + 1) ** -0.3 + 2.0

    constant = normal(15, 60)
    constant[:, ::3] = 7.0
    return {
        "more columns": normal(12, 300),
        "more rows": normal(60, 9),
        "square": normal(20, 20),
        "two rows": normal(2, 50),
        "one column": normal(6, 1),
        "rank 3": rng.standard_normal((15, 3)) @ normal(3, 80),
        "duplicated rows": np.repeat(normal(5, 70), 3, axis=0),
        "constant columns": constant,
    }


MATRICES = matrices()


def sign_of(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The sign (k,) of each component against the reference's."""
    return np.sign((found * expected).sum(axis=0))


def assert_is_sklearns(pca: GramPCA, rows: np.ndarray, held_out: np.ndarray) -> None:
    """Everything that has a meaning: past the rank, scikit-learn's directions have none."""
    reference = PCA(svd_solver="full").fit(rows)
    k, scale = pca.n_components_, reference.singular_values_[0]
    real = reference.singular_values_ > 1e-7 * scale
    assert k == real.sum()
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_"):
        np.testing.assert_allclose(getattr(pca, name), getattr(reference, name)[:k], rtol=1e-8)
    expected, projected = reference.transform(rows)[:, :k], reference.transform(held_out)[:, :k]
    found = pca.transform(rows)
    signs = sign_of(found, expected)
    np.testing.assert_allclose(found * signs, expected, atol=1e-8 * scale)
    np.testing.assert_allclose(pca.transform(held_out) * signs, projected, atol=1e-8 * scale)
    np.testing.assert_allclose(np.asarray(pca.mean_), reference.mean_, atol=1e-12 * scale)
    components = np.asarray(pca.components_)
    np.testing.assert_allclose(components * signs[:, None], reference.components_[:k], atol=1e-7)
    rebuilt = projected @ reference.components_[:k] + reference.mean_
    found = np.asarray(pca.inverse_transform(pca.transform(held_out)))
    np.testing.assert_allclose(found, rebuilt, atol=1e-7 * scale)


@pytest.mark.parametrize("name", MATRICES)
def test_it_is_sklearns_full_pca_for_every_shape_and_rank(name):
    rows = MATRICES[name]
    held_out = np.random.default_rng(8).standard_normal((4, rows.shape[1])) + rows.mean()
    assert_is_sklearns(GramPCA().fit(rows), rows, held_out)


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_it_is_sklearns_full_pca_for_every_chunking(points, held_out, chunks):
    assert_is_sklearns(GramPCA().fit(da.from_array(points, chunks=chunks)), points, held_out)


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_dask_in_any_chunks_gives_numpys_bits(points, held_out, chunks):
    # So little memory that there are 22 blocks.
    small = {"memory_gib": 7e-4}
    lazy = GramPCA(9, **small).fit(da.from_array(points, chunks=chunks))
    eager = GramPCA(9, **small).fit(np.asfortranarray(points))
    beside = da.from_array(held_out, chunks=(4, 70))
    np.testing.assert_array_equal(lazy.transform(beside), eager.transform(held_out))
    np.testing.assert_array_equal(lazy.spectrum_.scores_, eager.spectrum_.scores_)
    assert isinstance(lazy.components_, da.Array)
    np.testing.assert_array_equal(lazy.components_.compute(), eager.components_)


def test_a_row_a_million_times_the_others_costs_only_what_is_relative_to_it():
    """Inner products square: what is left of the others is exact to 2e-16 of the largest."""
    rows = MATRICES["more columns"].copy()
    rows[3] *= 1e6
    reference, pca = PCA(svd_solver="full").fit(rows), GramPCA().fit(rows)
    k = pca.n_components_
    assert k == len(rows) - 1
    error = np.abs(pca.explained_variance_ - reference.explained_variance_[:k]).max()
    assert error < 1e-14 * reference.explained_variance_[0]
    expected = reference.transform(rows)[:, 0]
    found = pca.fit_transform(rows)[:, 0]
    np.testing.assert_allclose(found * np.sign(found @ expected), expected, rtol=1e-9)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("lazy", [False, True])
def test_uncentred_it_is_the_singular_value_decomposition(name, lazy):
    rows = MATRICES[name]
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    pca = GramPCA(centre=False).fit(da.from_array(rows, chunks=(3, 8)) if lazy else rows)
    k = pca.n_components_
    assert k == (values > 1e-7 * values[0]).sum()
    np.testing.assert_allclose(pca.singular_values_, values[:k], rtol=1e-8)
    np.testing.assert_allclose(pca.explained_variance_, values[:k] ** 2 / len(rows), rtol=1e-8)
    expected = left[:, :k] * values[:k]
    found = pca.transform(rows)
    signs = sign_of(found, expected)
    np.testing.assert_allclose(found * signs, expected, atol=1e-7 * values[0])
    components = np.asarray(pca.components_) * signs[:, None]
    np.testing.assert_allclose(components, right[:k], atol=1e-6)
    assert not pca.mean_.any()
    rebuilt = np.asarray(pca.inverse_transform(found))
    np.testing.assert_allclose(rebuilt, rows, atol=1e-7 * values[0])


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unseen_rows_score_the_same_by_products_and_by_components(points, held_out, centre, dtype):
    pca = GramPCA(12, centre=centre).fit(points.astype(dtype))
    by_products = pca.transform(held_out.astype(dtype))
    by_components = (held_out - pca.mean_) @ pca.components_.astype(np.float64).T
    tolerance = (1e-5 if dtype is np.float32 else 1e-12) * np.abs(by_products).max()
    np.testing.assert_allclose(by_products, by_components, atol=tolerance)
    assert by_products.dtype == pca.components_.dtype == dtype


def test_components_are_orthonormal_however_many(points):
    for k in (3, 39):
        components = GramPCA(k).fit(points).components_
        np.testing.assert_allclose(components @ components.T, np.eye(k), atol=1e-9)


def test_float32_vectors_with_a_mean_far_above_their_spread_keep_their_spectrum(points):
    """1e4 times the spread, where products of raw float32 vectors are noise."""
    exact = points - points.mean(axis=0)
    lifted = (exact + 1e4 * np.abs(exact).std()).astype(np.float32)
    reference = PCA(svd_solver="full").fit(lifted.astype(np.float64))
    expected = reference.explained_variance_[:-1]
    pca = GramPCA(N - 1).fit(lifted)
    raw = Spectrum(N - 1).fit(lifted @ lifted.T).explained_variance_
    error = np.abs(pca.explained_variance_ - expected).max()
    assert error < 2e-7 * expected[0]
    assert np.abs(raw[:5] - expected[:5]).max() > 1e3 * error
    unseen = reference.transform(lifted[:3] + np.float32(1))[:, :5]
    found = pca.transform(lifted[:3] + np.float32(1))[:, :5]
    np.testing.assert_allclose(np.abs(found), np.abs(unseen), atol=1e-5 * np.abs(unseen).max())


@pytest.mark.parametrize("sub_network", ["full", "feed_forward"])
@pytest.mark.parametrize("centre", [True, False])
def test_a_store_is_fitted_and_projected_without_being_in_memory(
    store, vectors, rows, sub_network, centre
):
    (columns,) = store.layout.columns(sub_network)
    inside = vectors[:, columns]
    fit, unseen = np.arange(12), np.arange(12, 17)
    on_disk = AdapterVectors.of(store, rows, sub_network)
    eager = GramPCA(8, centre=centre).fit(inside[fit])
    pca = GramPCA(8, centre=centre).fit(on_disk.take(fit))
    np.testing.assert_allclose(pca.explained_variance_, eager.explained_variance_, rtol=1e-5)
    expected = eager.transform(inside[unseen])
    tolerance = 1e-5 * np.abs(eager.spectrum_.scores_).max()
    for others in (
        on_disk.take(unseen),
        inside[unseen],
        da.from_array(inside[unseen], chunks=(2, 40)),
    ):
        np.testing.assert_allclose(pca.transform(others), expected, atol=tolerance)
    np.testing.assert_allclose(pca.components_.compute(), eager.components_, atol=1e-4)
    np.testing.assert_allclose(np.asarray(pca.mean_), eager.mean_, atol=1e-12)
    rebuilt = pca.inverse_transform(expected).compute()
    np.testing.assert_allclose(rebuilt, eager.inverse_transform(expected), atol=tolerance)


def test_little_memory_means_narrow_blocks_and_the_same_components(points, held_out):
    whole, narrow = GramPCA(5).fit(points), GramPCA(5, memory_gib=1e-5).fit(points)
    np.testing.assert_allclose(narrow.explained_variance_, whole.explained_variance_, rtol=1e-12)
    np.testing.assert_allclose(narrow.transform(held_out), whole.transform(held_out), atol=1e-9)
    np.testing.assert_allclose(narrow.components_, whole.components_, atol=1e-12)


def test_whole_rows_as_chunks_keep_to_the_memory_too():
    """12 MiB of rows; the fit is given 4, and Dask's graph comes on top."""

    class Source:
        shape, dtype, ndim = (32, 100_000), np.dtype(np.float32), 2

        def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
            rows, columns = (np.arange(n)[part] for n, part in zip(self.shape, key, strict=True))
            return np.outer(rows + 1, columns % 97).astype(np.float32)

    rows = da.from_array(Source(), chunks=(1, -1), meta=np.empty((0, 0), np.float32))
    tracemalloc.start()
    GramPCA(3, memory_gib=4 / 1024).fit(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize("stored", [False, True], ids=["array", "store"])
def test_the_krylov_solver_finds_the_leading_components_that_the_exact_one_does(store, stored):
    rows = np.arange(17) * 2 + 1
    everything = AdapterVectors.of(store, rows)
    X = everything.take(range(12)) if stored else store.read_rows(rows[:12])
    unseen = everything.take(range(12, 17)) if stored else store.read_rows(rows[12:])
    exact, krylov = GramPCA(4).fit(X), GramPCA(4, solver="krylov").fit(X)
    difference = np.abs(krylov.explained_variance_ - exact.explained_variance_)
    assert (difference <= krylov.error_bounds_).all()
    np.testing.assert_allclose(
        krylov.explained_variance_ratio_, exact.explained_variance_ratio_, rtol=1e-4
    )
    np.testing.assert_allclose(krylov.transform(unseen), exact.transform(unseen), atol=1e-2)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"solver": "magic"}, "'magic'"), ({"solver": "krylov"}, "needs n_components")],
)
def test_solvers_that_cannot_be_used_are_refused(parameters, words):
    with pytest.raises(ValueError, match=words):
        GramPCA(**parameters).fit(np.eye(4))
