from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from lorastyle.embedding.pca import GramPCA
from lorastyle.embedding.products import products
from lorastyle.errors import TooFewAdaptersError

N, P = 40, 3000


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, N + 1) ** -0.7
    return (rng.standard_normal((N, N)) * spectrum) @ rng.standard_normal((N, P)) + 5.0


@pytest.fixture(scope="module")
def held_out() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((9, P)) + 5.0


def aligned(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scores with each component's sign as in the reference."""
    return scores * np.sign((scores * reference).sum(axis=0))


CHUNKINGS = [(40, 3000), (40, 100), (1, 3000), (7, 450)]


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_gram_pca_equals_sklearn_for_every_chunking(vectors, held_out, chunks):
    reference = PCA(svd_solver="full").fit(vectors)
    lazy = da.from_array(vectors, chunks=chunks)
    pca = GramPCA().fit_vectors(lazy)
    k = pca.n_components_
    assert k == N - 1
    variance = reference.explained_variance_[:k]
    np.testing.assert_allclose(pca.explained_variance_, variance, rtol=1e-9)
    ratio = reference.explained_variance_ratio_[:k]
    np.testing.assert_allclose(pca.explained_variance_ratio_, ratio, rtol=1e-9)
    expected = reference.transform(vectors)[:, :k]
    np.testing.assert_allclose(aligned(pca.scores_, expected), expected, atol=1e-8)
    expected_held_out = reference.transform(held_out)[:, :k]
    projected = pca.transform(products(lazy, da.from_array(held_out, chunks=(4, 70))))
    signs = np.sign((pca.scores_ * expected).sum(axis=0))
    np.testing.assert_allclose(projected * signs, expected_held_out, atol=1e-8)


def test_components_are_made_on_demand_and_are_sklearns(vectors):
    reference = PCA(n_components=12, svd_solver="full").fit(vectors)
    pca = GramPCA(12).fit_vectors(vectors)
    eager = pca.components(vectors)
    lazy = pca.components(da.from_array(vectors, chunks=(40, 500)))
    assert isinstance(lazy, da.Array)
    np.testing.assert_allclose(lazy.compute(), eager, atol=1e-12)
    expected = reference.components_
    np.testing.assert_allclose(aligned(eager.T, expected.T).T, expected, atol=1e-9)
    np.testing.assert_allclose(eager @ eager.T, np.eye(12), atol=1e-9)


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_signs_do_not_depend_on_chunking(vectors, chunks):
    pca = GramPCA().fit_vectors(da.from_array(vectors, chunks=chunks))
    largest = np.abs(pca.scores_).argmax(axis=0)
    assert (pca.scores_[largest, np.arange(pca.n_components_)] > 0).all()
    np.testing.assert_allclose(pca.scores_, GramPCA().fit_vectors(vectors).scores_, atol=1e-8)


def test_float32_vectors_with_a_mean_far_above_their_spread_keep_their_spectrum(vectors):
    """1e4 times the spread, where products of raw float32 vectors are noise."""
    exact = vectors - vectors.mean(axis=0)
    lifted = (exact + 1e4 * np.abs(exact).std()).astype(np.float32)
    expected = PCA(svd_solver="full").fit(lifted.astype(np.float64)).explained_variance_[:-1]
    found = GramPCA(N - 1).fit_vectors(lifted).explained_variance_
    raw = GramPCA(N - 1).fit(lifted @ lifted.T).explained_variance_
    error, raw_error = np.abs(found - expected).max(), np.abs(raw[:5] - expected[:5]).max()
    assert error < 2e-7 * expected[0]
    assert raw_error > 1e3 * error


@given(st.floats(-1e3, 1e3), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_no_origin_of_the_inner_products_is_noticed(shift, seed):
    rng = np.random.default_rng(seed)
    fit, others = rng.standard_normal((8, 60)), rng.standard_normal((3, 60))
    pca = GramPCA().fit(fit @ fit.T)
    moved = GramPCA().fit((fit + shift) @ (fit + shift).T)
    np.testing.assert_allclose(moved.explained_variance_, pca.explained_variance_, rtol=1e-6)
    cross = (others + shift) @ (fit + shift).T
    projected, expected = moved.transform(cross), pca.transform(others @ fit.T)
    np.testing.assert_allclose(aligned(projected, expected), expected, atol=1e-5)


def test_transforming_the_fit_adapters_gives_their_scores(vectors):
    gram = vectors @ vectors.T
    pca = GramPCA().fit(gram)
    np.testing.assert_allclose(pca.transform(gram), pca.scores_, atol=1e-7)


def test_repeated_adapters_cost_components_not_sanity():
    vectors = np.repeat(np.random.default_rng(2).standard_normal((4, 50)), 3, axis=0)
    pca = GramPCA().fit(vectors @ vectors.T)
    assert pca.n_components_ == 3
    assert np.isfinite(pca.transform(vectors @ vectors.T)).all()


def test_a_negative_spectrum_is_reported_and_not_used():
    eigenvectors = np.linalg.qr(np.random.default_rng(4).standard_normal((6, 6)))[0]
    gram = eigenvectors @ np.diag([5.0, 3, 2, 1, -1, -2]) @ eigenvectors.T
    pca = GramPCA().fit(gram)
    assert 0.1 < pca.negative_share_ < 0.4
    assert (pca.explained_variance_ > 0).all()
    assert GramPCA().fit(gram @ gram.T).negative_share_ < 1e-12


def test_max_components_keeps_the_first(vectors):
    everything, few = GramPCA().fit_vectors(vectors), GramPCA(5).fit_vectors(vectors)
    np.testing.assert_array_equal(few.scores_, everything.scores_[:, :5])
    assert GramPCA(1000).fit_vectors(vectors).n_components_ == N - 1


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_adapters_are_an_error(n):
    with pytest.raises(TooFewAdaptersError, match=f"at least 2 adapters, not {n}"):
        GramPCA().fit(np.zeros((n, n)))


def test_adapters_that_are_all_the_same_are_an_error():
    vector = np.random.default_rng(6).standard_normal(100)
    vectors = np.tile(vector, (5, 1))
    with pytest.raises(TooFewAdaptersError, match="all 5 adapters are the same"):
        GramPCA().fit(vectors @ vectors.T)
