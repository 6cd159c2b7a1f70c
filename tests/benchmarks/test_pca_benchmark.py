"""The benchmark at a size where NumPy can check every figure that it prints."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks.pca.__main__ import main
from benchmarks.pca.accuracy import errors, exact_spectra
from benchmarks.pca.contestants import CONTESTANTS
from benchmarks.pca.limits import drop_from_cache, shard_files
from benchmarks.synthetic import make_store
from lorastyle.records import SUB_NETWORKS

N_ROWS, N_COLUMNS, N_ARTISTS, N_COMPONENTS = 32, 3_200, 4, 10
SIZE = ["--rows", str(N_ROWS), "--columns", str(N_COLUMNS), "--components", str(N_COMPONENTS)]
METHODS = ["ours", "sklearn-full", "sklearn-incremental", "dask-svd-compressed"]
"""One of each kind; each is a process of its own, with seconds of imports."""
METHODS += [name for name in CONTESTANTS if name.startswith("dask-ml") and find_spec("dask_ml")]
EXACT = {"ours", "sklearn-full", "sklearn-incremental", "dask-ml-tsqr"}


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr("benchmarks.pca.limits.PRODUCT_S", 0.01)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("pca") / "adapters.zarr"
    return make_store(path, N_ROWS, N_COLUMNS, n_artists=N_ARTISTS, seed=0)


def run(capsys, store, *arguments):
    main([*SIZE, "--store", str(store.path), "--json", *arguments])
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


def test_every_method_is_timed_and_judged(store, capsys):
    document, table = run(capsys, store, "--only", ",".join(METHODS))
    results = {result["name"]: result for result in document["results"]}
    assert list(results) == METHODS
    for name, result in results.items():
        assert name in table
        assert (result["status"], result["explanation"]) == ("finished", "")
        assert 0 < result["wall_s"] < result["process_s"]
        assert 0.03 < result["peak_gb"] < 4
        assert result["to_ours"] == result["wall_s"] / results["ours"]["wall_s"]
        assert result["to_limit"] == result["wall_s"] / document["limits"]["limit_s"]
        _check_accuracy(result["accuracy"]["full"], exact=name in EXACT)
    assert set(results["ours"]["accuracy"]) == {"full", *SUB_NETWORKS}
    _check_settings(document)


@pytest.mark.skipif(find_spec("dask_ml") is not None, reason="dask-ml is there")
def test_a_peer_that_is_not_installed_is_absent(store, capsys):
    document, _ = run(capsys, store, "--only", "dask-ml-tsqr")
    assert document["results"][0]["status"] == "absent"


def _check_accuracy(accuracy, *, exact):
    assert set(accuracy["angles"]) == {str(N_ARTISTS - 1), str(N_COMPONENTS)}
    if exact:
        assert accuracy["variance_error"] < 1e-5
        assert max(accuracy["angles"].values()) < 1e-3
    else:
        assert 0 < accuracy["variance_error"] < 1


def _check_settings(document):
    settings, limits = document["settings"], document["limits"]
    assert (settings["rows"], settings["columns"]) == (N_ROWS, N_COLUMNS)
    assert (settings["artists"], settings["components"]) == (N_ARTISTS, N_COMPONENTS)
    assert limits["limit_s"] == max(limits["read_s"], limits["product_s"])
    assert {"date", "commit", "cores", "versions"} <= set(document["machine"])


def test_the_reference_is_numpys_svd_of_the_centred_vectors(store):
    exact = exact_spectra(store, N_ROWS, N_COMPONENTS)
    for name in ("full", *SUB_NETWORKS):
        (columns,) = store.layout.columns(name)
        vectors = store.read_columns(range(N_ROWS), columns).astype(np.float64)
        u, s, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
        variances, scores = exact[name]
        np.testing.assert_allclose(variances, (s**2)[:N_COMPONENTS] / (N_ROWS - 1), rtol=1e-10)
        np.testing.assert_allclose(np.abs(scores), np.abs(u * s)[:, :N_COMPONENTS], atol=1e-6)


def test_errors_are_the_worst_of_all_components_and_the_largest_angle():
    exact = {"full": (np.array([4.0, 1.0]), np.eye(4, 2))}
    turned = np.eye(4, 2)
    turned[:, 1] = [0, np.cos(0.3), np.sin(0.3), 0]
    found = {"full": (np.array([4.04, 0.9]), -3 * turned)}
    judged = errors(found, exact, [1, 2])["full"]
    assert judged["variance_error"] == pytest.approx(0.1)
    assert judged["angles"] == {"1": pytest.approx(0, abs=1e-7), "2": pytest.approx(0.3)}


@pytest.mark.parametrize(
    ("limit", "status", "explanation"),
    [
        (["--time-limit-s", "0.01"], "out of time", "did not finish in 0.01 s"),
        (["--memory-limit-gib", "0.003"], "out of memory", "exceeded 0.003 GiB"),
    ],
)
def test_a_limit_that_is_met_is_a_result(store, capsys, limit, status, explanation):
    document, table = run(capsys, store, "--only", "sklearn-full", *limit)
    (result,) = document["results"]
    assert (result["status"], result["explanation"]) == (status, explanation)
    assert (result["wall_s"], result["to_ours"], result["accuracy"]) == (None, None, {})
    assert f"sklearn-full: {explanation}" in table


def test_a_store_made_for_a_run_is_deleted_after_it_also_when_stopped(tmp_path, monkeypatch):
    path = tmp_path / "made.zarr"
    monkeypatch.setattr("benchmarks.pca.__main__.measure", _stop)
    with pytest.raises(KeyboardInterrupt):
        main([*SIZE, "--store", str(path)])
    assert not path.exists()
    with pytest.raises(KeyboardInterrupt):
        main([*SIZE, "--store", str(path), "--keep"])
    assert path.exists()


def _stop(*_):
    raise KeyboardInterrupt


def test_a_store_that_was_there_stays(store, capsys):
    run(capsys, store, "--only", "sklearn-full", "--time-limit-s", "0.01")
    assert store.verify(0)


def test_too_little_disk_is_told_before_anything_is_written(tmp_path):
    path = tmp_path / "made.zarr"
    with pytest.raises(SystemExit, match=r"needs 4,200,000\.0 GB, .* free; make room"):
        main(["--rows", "1000000", "--columns", "1000000000", "--store", str(path)])
    assert not path.exists()


def test_a_store_of_another_size_is_refused(store):
    with pytest.raises(SystemExit, match="holds 32 x 3,200, not 33 x 3,200"):
        main([*SIZE, "--rows", "33", "--store", str(store.path)])


def test_the_cache_is_dropped_without_harm(store):
    drop_from_cache(shard_files(store, N_ROWS))
    assert all(store.verify(row) for row in range(N_ROWS))
