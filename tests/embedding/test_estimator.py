"""`GramPCA` as scikit-learn's tools see it."""

from __future__ import annotations

import pickle

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from lorastyle.embedding.pca import GramPCA
from lorastyle.errors import TooFewAdaptersError
from lorastyle.store.vectors import AdapterVectors


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, 30))


@pytest.mark.parametrize(
    "estimator", [GramPCA(), GramPCA(2, centre=False), GramPCA(2, solver="krylov")], ids=str
)
def test_it_passes_all_of_sklearns_checks(estimator):
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    by_status: dict[str, list[str]] = {}
    for result in results:
        text = f"{result['check_name']}: {result['exception']!r}"
        by_status.setdefault(result["status"], []).append(text)
    assert len(by_status.pop("passed")) > 40
    # Other array libraries are tried only where SCIPY_ARRAY_API is set.
    skipped = by_status.pop("skipped", [])
    assert all("check_array_api" in text for text in skipped)
    assert by_status == {}


def test_clones_pipelines_and_feature_names_work(rows):
    table = pd.DataFrame(rows, columns=[f"w{i}" for i in range(30)])
    pipeline = make_pipeline(StandardScaler(), clone(GramPCA(3))).fit(table)
    assert pipeline.transform(table).shape == (8, 3)
    assert list(pipeline.get_feature_names_out()) == ["grampca0", "grampca1", "grampca2"]
    assert GramPCA().set_params(n_components=4).fit(rows).n_components_ == 4


def test_a_pickle_projects_the_same(rows):
    pca = GramPCA(3).fit(da.from_array(rows, chunks=4))
    again = pickle.loads(pickle.dumps(pca))
    np.testing.assert_array_equal(again.transform(rows), pca.transform(rows))


def test_a_pickled_fit_on_a_store_holds_no_weights(store):
    big = AdapterVectors.of(store, np.arange(5) * 2 + 1)
    content = pickle.dumps(GramPCA(2).fit(big))
    assert len(content) < 20_000
    again = pickle.loads(content)
    assert again.transform(big).shape == (5, 2)


def test_looking_at_it_computes_no_components(rows, monkeypatch):
    pca = GramPCA(3).fit(rows)
    monkeypatch.setattr(GramPCA, "_combine", lambda *_, **__: pytest.fail("computed"))
    assert "GramPCA" in pca._repr_html_() + repr(pca)


def test_the_scheduler_is_the_one_it_is_given(rows):
    used = []

    def watched(graph, keys, **options):
        used.append(len(keys))
        return dask.get(graph, keys, **options)

    lazy = da.from_array(rows, chunks=(8, 10))
    pca = GramPCA(scheduler=watched).fit(lazy)
    pca.transform(lazy)
    assert len(used) == 2


@pytest.mark.parametrize("n_components", [0, -1, 2.5, "mle"])
def test_a_count_that_is_none_is_refused(rows, n_components):
    with pytest.raises(ValueError, match="choose a whole number from 1, or None"):
        GramPCA(n_components).fit(rows)


def test_what_cannot_be_fitted_or_placed_is_said(rows):
    lazy = da.from_array(rows, chunks=4)
    with pytest.raises(ValueError, match="memory_gib is 0; choose a positive number"):
        GramPCA(memory_gib=0).fit(rows)
    with pytest.raises(TooFewAdaptersError, match="all 8 adapters are the same"):
        GramPCA().fit(np.ones((8, 5)))
    with pytest.raises(TooFewAdaptersError, match="at least 2 adapters, not 1"):
        GramPCA().fit(lazy[:1])
    with pytest.raises(ValueError, match="has NaN or infinite entries"):
        GramPCA().fit(da.where(lazy > 1, np.nan, lazy))
    with pytest.raises(ValueError, match=r"shape \(8,\), expected \(n, p\)"):
        GramPCA().fit(lazy[:, 0])
    with pytest.raises(ValueError, match=r"compute_chunk_sizes\(\)"):
        GramPCA().fit(lazy[lazy[:, 0] > 0])
    with pytest.raises(ValueError, match="Complex data not supported"):
        GramPCA().fit(lazy * 1j)
    pca = GramPCA(3).fit(lazy)
    with pytest.raises(ValueError, match="X has 29 features, but GramPCA is expecting 30"):
        pca.transform(lazy[:, 1:])
    with pytest.raises(ValueError, match=r"scores have shape \(2, 4\), expected \(m, 3\)"):
        pca.inverse_transform(np.ones((2, 4)))


def test_whole_numbers_in_dask_are_numbers_too():
    counts = np.arange(24).reshape(4, 6) % 7
    expected = GramPCA(2).fit(counts).transform(counts)
    lazy = da.from_array(counts, chunks=2)
    np.testing.assert_array_equal(GramPCA(2).fit(lazy).transform(lazy), expected)
