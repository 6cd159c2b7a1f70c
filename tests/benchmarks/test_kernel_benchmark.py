"""The benchmark at its quick size, and its own arithmetic. Times are never judged."""

import json

import numpy as np
import pytest

from benchmarks.kernel import search_latency
from benchmarks.kernel.__main__ import N_COMPONENTS, QUICK, main
from benchmarks.kernel.adapters import adapters_at, mixed, modules, random_adapter
from benchmarks.synthetic import make_store
from lorastyle.adapters.pairs import compare_pair
from lorastyle.adapters.updates import ModuleKey


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr("benchmarks.kernel.sketching.N_COMPARED", 64)
    monkeypatch.setattr("benchmarks.kernel.sketching.SEEDS", (0,))
    monkeypatch.setattr("benchmarks.kernel.search_latency.N_QUERIES", 20)


def test_every_figure_is_there_and_agrees_with_the_others(capsys):
    main(["--quick", "--json"])
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    _check_exact(document["exact"])
    (record,) = document["sketch"]["synthetic"]
    _check_sketch(record, document["exact"])
    (search,) = document["search"]
    assert (search["entries"], search["recall"]) == (QUICK["entries"][0], 1.0)
    assert 0 < search["median_ms"] <= search["p95_ms"]
    (whole,) = document["whole_search"]
    assert whole["entries"] == search["entries"] and whole["components"] == N_COMPONENTS
    assert 0 < whole["placing_median_ms"] <= whole["median_ms"] <= whole["p95_ms"]
    for part in ("exact kernel", "sketch, synthetic", "StyleIndex"):
        assert f"| {part}" in printed.err
    assert {"date", "commit", "cores", "versions"} <= set(document["machine"])


def _check_exact(exact):
    n_pairs = 6 * 7 / 2
    assert (exact["adapters"], exact["rank"], exact["modules"]) == (6, 16, 10)
    assert exact["pairs_per_s"] == pytest.approx(n_pairs / exact["wall_s"])
    flops = 2 * 16 * exact["parameters"] * n_pairs
    assert exact["gflop_per_s"] == pytest.approx(flops / exact["wall_s"] / 1e9)
    share = exact["gflop_per_s"] / exact["gemm_gflop_per_s"]
    assert exact["share_of_gemm"] == pytest.approx(share)
    assert exact["cpu_share_of_gemm"] > 0
    assert 0 <= exact["error"] < 1e-6
    assert exact["adapters_gb"] < exact["process_peak_gb"] < 4
    assert exact["database_s"] > exact["wall_s"]


def _check_sketch(record, exact):
    assert record["bytes"] == 4 * record["numbers"]
    assert record["numbers"] == pytest.approx(record["size"], rel=0.1)
    assert record["speed_up"] == pytest.approx(record["pairs_per_s"] / exact["pairs_per_s"])
    errors = record["errors"]["planted"]
    assert errors["pairs"] > 40
    assert 0 < errors["rms"] < errors["p95"] < 0.15
    assert errors["weak_rms"] >= errors["rms"]


def test_the_papers_modules_have_its_number_of_parameters():
    assert sum(16 * (one.out_features + one.in_features) for one in modules()) == 5_984_256


def test_a_mixture_has_the_cosine_it_was_made_with():
    targets = modules(every=20)
    a, b = (random_adapter(targets, 4, seed) for seed in (1, 2))
    independent = compare_pair(a, b).whole.cosine
    expected = 0.6 + 0.8 * independent
    expected /= np.sqrt(1 + 2 * 0.6 * 0.8 * independent)
    assert compare_pair(a, mixed(a, b, 0.6)).whole.cosine == pytest.approx(expected, abs=1e-6)


def test_a_shared_lora_a_is_shared():
    targets = modules(every=40)
    a, b = (random_adapter(targets, 4, seed, seed_of_lora_a=9) for seed in (1, 2))
    pair = compare_pair(a, b)
    assert all(one.factor_cosine == pytest.approx(1) for one in pair.modules.values())
    assert abs(pair.whole.cosine) < 0.1


def test_adapters_of_a_store_are_its_rows(tmp_path):
    store = make_store(tmp_path / "adapters.zarr", 3, 3_200, n_artists=3, seed=0)
    adapters = adapters_at(store.path)
    assert len(adapters) == 3
    row = store.read_columns([1], slice(0, store.size))
    name = store.layout.modules[0]
    found = adapters[1].updates[ModuleKey("unet", name)]
    np.testing.assert_array_equal(found.lora_A, store.layout.unflatten(row)[name, "A"][0])


def test_a_folder_without_adapters_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    with pytest.raises(SystemExit, match="holds 0 adapters"):
        main(["--quick", "--adapters", str(tmp_path)])


@pytest.mark.parametrize("arguments", [["--rank", "0"], ["--n", "1"]])
def test_sizes_that_cannot_be_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "choose" in capsys.readouterr().err


def test_recall_counts_what_brute_force_finds():
    scores, queries = search_latency.entries(200, 5, seed=0)
    distances = np.linalg.norm(queries[:, None].astype(np.float64) - scores[None], axis=2)
    nearest = [row[:10] for row in np.argsort(distances, axis=1)]
    assert search_latency.recall(scores, queries, nearest) == 1.0
    farthest = [row[:5] for row in np.argsort(-distances, axis=1)]
    half = [np.concatenate([a[:5], b]) for a, b in zip(nearest, farthest, strict=True)]
    assert search_latency.recall(scores, queries, half) == pytest.approx(0.5)
