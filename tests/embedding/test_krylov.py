from __future__ import annotations

import tracemalloc
import warnings
from dataclasses import dataclass, field
from typing import Any

import dask
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.embedding import krylov_pass
from lorastyle.embedding.krylov import KrylovSpectrum, krylov_spectrum
from lorastyle.embedding.krylov_pass import InMemory, Tiling
from lorastyle.embedding.spectrum import Spectrum
from lorastyle.errors import StageError, TooFewAdaptersError
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors

N, P = 250, 4000
SPECTRA = {
    "slow": np.arange(1, N + 1) ** -0.35,
    "middling": np.arange(1, N + 1) ** -0.7,
    "fast": 0.75 ** np.arange(N),
    "clustered": np.r_[np.full(12, 10.0), np.full(12, 6.0), np.linspace(1, 0.1, N - 24)],
}


def made(amplitudes: np.ndarray, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    """Float32 vectors (N, P) with about these singular values, up to a factor."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((len(amplitudes), len(amplitudes))))[0]
    spread = (turn * amplitudes) @ rng.standard_normal((len(amplitudes), P))
    return (spread + mean * rng.standard_normal(P)).astype(np.float32)


def exact(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances and components' directions among the adapters, from the whole Gram matrix."""
    about_mean = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, directions = np.linalg.eigh(about_mean @ about_mean.T)
    return values[::-1] / (len(vectors) - 1), directions[:, ::-1]


def fitted(vectors: Any, n_components: int, **settings: Any) -> KrylovSpectrum:
    """Without a word where it has not converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return krylov_spectrum(vectors, n_components, **settings)


@pytest.mark.parametrize("max_passes", [1, 2, 8])
@pytest.mark.parametrize("mean", [0.0, 300.0])
@pytest.mark.parametrize("kind", [*SPECTRA, "steep"])
def test_no_eigenvalue_is_further_off_than_its_bound_says(kind, mean, max_passes):
    # Steep: the fifteenth lies at the edge of what float32 tells from nothing.
    vectors = made(SPECTRA.get(kind, 0.6 ** np.arange(N)), mean)
    found = fitted(vectors, 15, max_passes=max_passes)
    k = len(found.error_bounds_)
    variances, _ = exact(vectors)
    # What is proven: some eigenvalue is within the bound.
    nearest = np.abs(found.explained_variance_[:, None] - variances).min(axis=1)
    assert (nearest <= found.error_bounds_).all()
    # Rayleigh-Ritz: never above the true one of the same number, but for rounding.
    assert (found.explained_variance_ <= variances[:k] + 1e-6 * variances[0]).all()
    ratio = found.explained_variance_ / variances.sum()
    np.testing.assert_allclose(found.explained_variance_ratio_, ratio, rtol=2e-6)


@pytest.mark.parametrize("mean", [0.0, 300.0])
@pytest.mark.parametrize("kind", SPECTRA)
def test_once_converged_it_is_the_exact_answer(kind, mean):
    vectors = made(SPECTRA[kind], mean)
    found = krylov_spectrum(vectors, 12, max_passes=12)
    variances, directions = exact(vectors)
    assert found.converged_
    error = np.abs(found.explained_variance_ - variances[:12])
    assert (error <= found.error_bounds_).all()
    assert (found.error_bounds_ <= 1e-4 * found.explained_variance_).all()
    assert (error <= 2e-7 * np.sqrt(variances[0] * variances[:12])).all()
    # The plane of all twelve, since neighbours may be as good as equal.
    inside = directions[:, :12].T @ (found.scores_ / found.spectrum.singular_values_)
    assert np.linalg.svd(inside, compute_uv=False).min() > 1 - 1e-5


def test_float64_vectors_are_multiplied_in_float64():
    vectors = made(SPECTRA["middling"]).astype(np.float64)
    found = krylov_spectrum(vectors, 10, tolerance=1e-9, max_passes=20)
    variances, _ = exact(vectors)
    assert found.converged_
    np.testing.assert_allclose(found.explained_variance_, variances[:10], rtol=1e-10)


def test_scores_and_signs_are_those_of_the_gram_matrix():
    vectors = made(SPECTRA["middling"], mean=5.0)
    about = vectors.astype(np.float64)
    expected = Spectrum(8).fit(about @ about.T)
    # In float32 no smaller tolerance can be stated: rounding alone is 1e-6 of the root.
    found = krylov_spectrum(vectors, 8, tolerance=1e-5, max_passes=12)
    largest = np.abs(expected.scores_).max(axis=0)
    assert (np.abs(found.scores_ - expected.scores_) <= 1e-4 * largest).all()


def test_unseen_rows_are_placed_as_by_scikit_learn():
    everyone = made(SPECTRA["middling"], mean=50.0).astype(np.float64)
    fit, held_out = everyone[:220], everyone[220:]
    reference = PCA(8, svd_solver="full").fit(fit)
    found = krylov_spectrum(fit.astype(np.float32), 8, tolerance=1e-5, max_passes=12)
    signs = np.sign((reference.transform(fit) * found.scores_).sum(axis=0))
    expected = reference.transform(held_out) * signs
    scale = np.linalg.norm(expected, axis=0)
    off = np.linalg.norm(found.transform(held_out.astype(np.float32)) - expected, axis=0)
    assert (off <= 1e-3 * scale).all()
    again = found.transform(fit.astype(np.float32))
    np.testing.assert_allclose(again, found.scores_, atol=1e-4 * np.abs(found.scores_).max())


@pytest.mark.parametrize(("n", "k"), [(2, 1), (2, 9), (5, 2), (5, 50), (40, 39), (40, 25)])
def test_few_adapters_need_no_special_case(n, k):
    vectors = made(np.arange(1, n + 1) ** -0.5, mean=2.0)
    found = krylov_spectrum(vectors, k, max_passes=12)
    variances, _ = exact(vectors)
    kept = min(k, n - 1)
    assert found.scores_.shape == (n, kept)
    np.testing.assert_allclose(found.explained_variance_, variances[:kept], rtol=1e-6)


def test_repeated_adapters_cost_components_not_sanity():
    vectors = np.repeat(made(np.array([5.0, 3, 2, 1])), 10, axis=0)
    found = krylov_spectrum(vectors, 10)
    assert len(found.error_bounds_) == 3
    np.testing.assert_allclose(found.explained_variance_, exact(vectors)[0][:3], rtol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_a_row_far_from_all_others_is_one_component(seed):
    """And its value is one sum of squares, the worst that rounding can meet."""
    vectors = made(SPECTRA["middling"], seed=seed)
    vectors[150] *= 3e3
    found = fitted(vectors, 6)
    variances, _ = exact(vectors)
    assert (np.abs(found.explained_variance_ - variances[:6]) <= found.error_bounds_).all()
    assert np.abs(found.scores_[:, 0]).argmax() == 150


@pytest.mark.parametrize("n", [0, 1, 6])
def test_nothing_to_analyse_is_an_error(n):
    with pytest.raises(TooFewAdaptersError):
        krylov_spectrum(np.ones((n, 20), np.float32), 3)


def test_who_has_not_converged_is_told_so():
    with pytest.warns(ConvergenceWarning, match="after 2 passes; raise max_passes"):
        found = krylov_spectrum(made(SPECTRA["slow"]), 20, max_passes=2)
    assert not found.converged_
    assert found.n_passes_ == 2


def test_a_seed_gives_one_answer_and_seeds_agree():
    vectors = made(SPECTRA["middling"])
    first, again = krylov_spectrum(vectors, 5), krylov_spectrum(vectors, 5)
    other = krylov_spectrum(vectors, 5, seed=1)
    np.testing.assert_array_equal(first.scores_, again.scores_)
    assert not np.array_equal(first.scores_, other.scores_)
    np.testing.assert_allclose(first.explained_variance_, other.explained_variance_, rtol=1e-5)


@dataclass(frozen=True)
class Counted(InMemory):
    """Counts how often each entry is read into a tile; reads of the origin have no place."""

    counts: np.ndarray = field(kw_only=True)

    def read(self, columns, rows=slice(None), *, out=None, origin=0):
        self.counts[rows, columns] += 1
        return super().read(columns, rows, out=out, origin=origin)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(krylov_pass, "BLOCK_COLUMNS", 1000)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("tiling", "n_reads"),
    [(Tiling(N, 1, 1), 1), (Tiling(70, 0, 1), 2), (Tiling(70, 2, 3), None)],
)
def test_a_pass_reads_each_number_once_or_twice(monkeypatch, tiling, n_reads):
    monkeypatch.setattr(Tiling, "of", lambda *_: tiling)
    vectors = Counted(made(SPECTRA["middling"]), counts=np.zeros((N, P), int))
    monkeypatch.setattr(krylov_pass, "as_vectors", lambda vectors: vectors)
    monkeypatch.setattr("lorastyle.embedding.krylov.as_vectors", lambda vectors: vectors)
    with dask.config.set(scheduler="synchronous"):
        found = krylov_spectrum(vectors, 5)
    once = 140 if n_reads is None else (N if n_reads == 1 else 0)
    assert found.n_passes_ > 2
    assert (vectors.counts[:once] == found.n_passes_).all()
    assert (vectors.counts[once:] == 2 * found.n_passes_).all()


@pytest.mark.usefixtures("small_blocks")
def test_tiles_do_not_change_the_answer(monkeypatch):
    vectors = made(SPECTRA["middling"], mean=20.0)
    whole = krylov_spectrum(vectors, 6)
    others = whole.transform(vectors[:90] + 1)
    for tiling in (Tiling(64, 0, 1), Tiling(70, 2, 3), Tiling(7, 10, 11)):
        monkeypatch.setattr(Tiling, "of", lambda *_, tiling=tiling: tiling)
        tiled = krylov_spectrum(vectors, 6)
        np.testing.assert_allclose(tiled.explained_variance_, whole.explained_variance_, rtol=1e-6)
        again = tiled.transform(vectors[:90] + 1)
        np.testing.assert_allclose(again, others, atol=1e-4 * np.abs(others).max())


def test_too_little_memory_says_how_much_is_needed():
    vectors = made(SPECTRA["slow"])
    with pytest.raises(StageError, match="set memory_gib to") as refusal:
        krylov_spectrum(vectors, 5, memory_gib=0.001)
    needed = float(str(refusal.value).split("memory_gib to ")[1].split()[0])
    fitted(vectors, 5, memory_gib=1.1 * needed, max_passes=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AdapterStore:
    """300 adapters of 41,000 numbers: 49 MB."""
    modules = [
        TargetModule("a.attn1", "self_attention", 1000, 1050),
        TargetModule("a.ff", "feed_forward", 1000, 1050),
    ]
    path = tmp_path_factory.mktemp("krylov") / "adapters.zarr"
    layout = AdapterLayout.of_modules(10, modules)
    store = AdapterStore.create(path, layout, base={}, alpha=1.0, n_rows=300, init={})
    rng = np.random.default_rng(5)
    common, few = rng.standard_normal((2, 20, layout.size), dtype=np.float32)
    for row in range(300):
        own = 0.3 * rng.standard_normal(layout.size, dtype=np.float32)
        store._shards.write(row, 9 * common[0] + own + few[row % 20])
    return store


def test_a_store_is_analysed_within_its_memory(store):
    vectors = AdapterVectors.of(store, np.arange(299, 9, -1), "feed_forward")
    in_memory = vectors.read(slice(0, vectors.shape[1]))
    memory_gib, k = 0.05, 10
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        found = krylov_spectrum(vectors, k, memory_gib=memory_gib)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    driver = 16 * len(vectors) * 2 * k * found.n_passes_
    assert peak < memory_gib * 2**30 / krylov_pass.SHARES + 2 * driver + 5e6
    variances, _ = exact(in_memory)
    np.testing.assert_allclose(found.explained_variance_, variances[:k], rtol=1e-6)


def test_unseen_rows_may_be_of_another_kind_but_not_of_another_length(store):
    fit = AdapterVectors.of(store, np.arange(280))
    in_memory, held_out = fit.read(slice(0, fit.shape[1])), AdapterVectors.of(store, [290])
    found = krylov_spectrum(in_memory.astype(np.float64), 3)
    expected = krylov_spectrum(fit, 3).transform(held_out)
    np.testing.assert_allclose(found.transform(held_out), expected, rtol=1e-4)
    with pytest.raises(ValueError, match="3 columns, the fit was on 41000"):
        found.transform(np.ones((2, 3)))


def test_unseen_rows_of_a_store_are_placed_without_components(store):
    fit, held_out = AdapterVectors.of(store, np.arange(280)), AdapterVectors.of(store, [280, 299])
    found = krylov_spectrum(fit, 5, memory_gib=0.1)
    there = found.transform(held_out, memory_gib=0.1)
    # Of the same artists, so next to theirs.
    nearest = np.linalg.norm(found.scores_[:, None] - there, axis=2).argmin(axis=0)
    assert (nearest % 20 == [0, 19]).all()
