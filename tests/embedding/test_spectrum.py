from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import KernelPCA

from lorastyle.embedding.spectrum import Spectrum, centred, centred_cross
from lorastyle.errors import TooFewAdaptersError

N = 40


@pytest.fixture(scope="module")
def gram() -> np.ndarray:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((N, N)) * np.arange(1, N + 1) ** -0.7) + 2.0
    return vectors @ vectors.T


def aligned(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scores with each component's sign as in the reference."""
    return scores * np.sign((scores * reference).sum(axis=0))


@given(st.floats(-1e3, 1e3), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_no_origin_of_the_inner_products_is_noticed(shift, seed):
    rng = np.random.default_rng(seed)
    fit, others = rng.standard_normal((8, 60)), rng.standard_normal((3, 60))
    here = Spectrum().fit(fit @ fit.T)
    moved = Spectrum().fit((fit + shift) @ (fit + shift).T)
    np.testing.assert_allclose(moved.explained_variance_, here.explained_variance_, rtol=1e-6)
    cross = (others + shift) @ (fit + shift).T
    projected, expected = moved.transform(cross), here.transform(others @ fit.T)
    np.testing.assert_allclose(aligned(projected, expected), expected, atol=1e-5)
    means = ((fit + shift) @ (fit + shift).T).mean(axis=0)
    np.testing.assert_allclose(here.transform(cross, means), expected, atol=1e-5)


def test_products_about_the_fit_mean_need_no_means():
    rng = np.random.default_rng(1)
    fit, others = rng.standard_normal((8, 60)), rng.standard_normal((3, 60))
    here = Spectrum().fit(fit @ fit.T)
    mean = fit.mean(axis=0)
    about_mean = (others - mean) @ (fit - mean).T
    expected = here.transform(others @ fit.T)
    np.testing.assert_allclose(here.transform(about_mean, np.zeros(8)), expected, atol=1e-12)
    moved = centred_cross(others @ fit.T, (fit @ fit.T).mean(axis=0))
    np.testing.assert_allclose(moved, about_mean, atol=1e-12)


def test_a_kernel_s_scores_are_sklearns_kernel_pca():
    rng = np.random.default_rng(2)
    points = rng.standard_normal((30, 4))
    kernel = np.exp(-0.2 * ((points[:, None] - points[None]) ** 2).sum(axis=2))
    reference = KernelPCA(6, kernel="precomputed").fit(kernel[:20, :20])
    spectrum = Spectrum(6).fit(kernel[:20, :20])
    expected = reference.transform(kernel[20:, :20])
    found = spectrum.transform(kernel[20:, :20])
    np.testing.assert_allclose(aligned(found, expected), expected, atol=1e-10)
    np.testing.assert_allclose(spectrum.singular_values_**2, reference.eigenvalues_, rtol=1e-10)


def test_transforming_the_fit_adapters_gives_their_scores(gram):
    spectrum = Spectrum().fit(gram)
    np.testing.assert_allclose(spectrum.transform(gram), spectrum.scores_, atol=1e-7)


def test_uncentred_all_n_components_are_there_and_rebuild_the_matrix(gram):
    spectrum = Spectrum(centre=False).fit(gram)
    assert spectrum.n_components_ == N
    np.testing.assert_allclose(spectrum.scores_ @ spectrum.scores_.T, gram, atol=1e-9)
    np.testing.assert_allclose(spectrum.transform(gram), spectrum.scores_, atol=1e-7)
    np.testing.assert_allclose(spectrum.explained_variance_.sum(), np.trace(gram) / N)
    assert Spectrum(centre=False).fit(np.array([[4.0]])).scores_ == 2.0


@pytest.mark.parametrize("k", [1, 5, 9])
def test_the_first_components_alone_are_those_of_all(gram, k):
    """A quarter of the whole is the line between the two ways."""
    everything, few = Spectrum().fit(gram), Spectrum(k).fit(gram)
    assert few.n_components_ == k
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_"):
        np.testing.assert_allclose(getattr(few, name), getattr(everything, name)[:k], rtol=1e-10)
    np.testing.assert_allclose(few.scores_, everything.scores_[:, :k], atol=1e-9)
    np.testing.assert_allclose(few.transform(gram), everything.transform(gram)[:, :k], atol=1e-9)
    assert Spectrum(1000).fit(gram).n_components_ == N - 1


@pytest.mark.parametrize("limit", [1, None])
def test_a_negative_spectrum_is_reported_whole_and_not_used(limit):
    eigenvectors = np.linalg.qr(np.random.default_rng(4).standard_normal((6, 6)))[0]
    gram = eigenvectors @ np.diag([5.0, 3, 2, 1, -1, -2]) @ eigenvectors.T
    spectrum = Spectrum(limit).fit(gram)
    eigenvalues = np.linalg.eigvalsh(centred(gram))
    share = -eigenvalues[eigenvalues < 0].sum() / np.abs(eigenvalues).sum()
    assert spectrum.negative_share_ == pytest.approx(share)
    assert (spectrum.explained_variance_ > 0).all()
    ratio = eigenvalues[-1] / eigenvalues[eigenvalues > 0].sum()
    assert spectrum.explained_variance_ratio_[0] == pytest.approx(ratio)
    assert Spectrum(limit).fit(gram @ gram.T).negative_share_ < 1e-12


def test_repeated_adapters_cost_components_not_sanity():
    vectors = np.repeat(np.random.default_rng(2).standard_normal((4, 50)), 3, axis=0)
    for limit in (None, 3):
        spectrum = Spectrum(limit).fit(vectors @ vectors.T)
        assert spectrum.n_components_ == 3
        assert np.isfinite(spectrum.transform(vectors @ vectors.T)).all()


def test_of_scores_as_large_as_each_other_the_first_is_positive():
    """Rounding, here of the last bit, must not choose the sign."""
    for noise in (-1e-16, 0.0, 1e-16):
        gram = np.array([[1 + noise, -1.0], [-1.0, 1 - noise]])
        np.testing.assert_allclose(Spectrum().fit(gram).scores_, [[1], [-1]])


def test_a_spectrum_s_arrays_bring_it_back_bit_by_bit(gram):
    spectrum = Spectrum(7).fit(gram)
    again = Spectrum.from_arrays(spectrum.to_arrays())
    for name in ("scores_", "explained_variance_", "explained_variance_ratio_", "negative_share_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(spectrum, name))
    np.testing.assert_array_equal(again.transform(gram), spectrum.transform(gram))
    with pytest.raises(ValueError, match="not those of a spectrum"):
        Spectrum.from_arrays(spectrum.to_arrays() | {"means": np.zeros(3)})


@pytest.mark.parametrize(("n", "centre", "needed"), [(0, True, 2), (1, True, 2), (0, False, 1)])
def test_too_few_adapters_are_an_error(n, centre, needed):
    with pytest.raises(TooFewAdaptersError, match=f"at least {needed} adapters, not {n}"):
        Spectrum(centre=centre).fit(np.zeros((n, n)))


def test_adapters_that_are_all_the_same_are_an_error():
    vectors = np.tile(np.random.default_rng(6).standard_normal(100), (5, 1))
    for limit in (None, 1):
        with pytest.raises(TooFewAdaptersError, match="all 5 adapters are the same"):
            Spectrum(limit).fit(vectors @ vectors.T)
    with pytest.raises(TooFewAdaptersError, match="all 5 adapters are zero"):
        Spectrum(centre=False).fit(np.zeros((5, 5)))
