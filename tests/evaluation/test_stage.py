import json

import numpy as np
import pandas as pd
import pytest
import yaml

from lorastyle.corpus.stage import plan, read_plan
from lorastyle.embedding.gram import GramSet
from lorastyle.errors import ConfigError, StageError
from lorastyle.evaluation.curves import CURVE_COLUMNS
from lorastyle.evaluation.protocol import ProtocolSettings, clustering_entry, fit_setting
from lorastyle.evaluation.selection import evaluate_setting
from lorastyle.evaluation.stage import evaluate
from lorastyle.evaluation.sweep_choice import choose_best, results_table
from lorastyle.evaluation.swept import BEST_FILE, RESULTS_FILE, current_inputs, own_setting
from lorastyle.records import SUB_NETWORKS
from lorastyle.runs import Run

SMALL = {"n_artists": 3, "works_per_artist": 16, "min_works": 10}
SETTINGS = [
    f"{representation}/{sub_network}"
    for representation in ("factors", "delta")
    for sub_network in ("full", "feed_forward")
]
FEW = {"sub_networks": ["full", "feed_forward"], "max_components": 6}


def finish_embedding(run, sub_networks=SUB_NETWORKS):
    """What the stages before would leave: Gram matrices of adapters around their artists."""
    specs = read_plan(run)
    table = pd.DataFrame([spec.to_dict() for spec in specs])
    table = table[["row", "adapter_id", "artist", "genre", "role", "index"]]
    rng = np.random.default_rng(0)
    centres = dict(zip(sorted(set(table["artist"])), rng.normal(size=(3, 30)), strict=True))
    vectors = np.stack([centres[artist] for artist in table["artist"]])
    vectors = vectors + 0.8 * rng.normal(size=vectors.shape)
    gram = dict.fromkeys(sub_networks, vectors @ vectors.T)
    GramSet(table, {"factors": gram, "delta": gram}).save(run.embedding_path)
    run.finish("embed", {}, {"n_adapters": len(table)}, 0.0)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A planned corpus: painted once, since painting takes longer than all else here."""
    from shutil import copytree

    made = {}

    def make(directory, experiment):
        key = experiment.hash()
        if key not in made:
            made[key] = tmp_path_factory.mktemp("planned") / "run"
            plan(Run.create(made[key], experiment), image_size=64)
        copytree(made[key], directory)
        return Run.open(directory)

    return make


@pytest.fixture
def run(planned, tmp_path, new_experiment):
    run = planned(tmp_path / "run", new_experiment(corpus=SMALL, embedding=FEW))
    finish_embedding(run)
    return run


def test_metrics_have_the_shape_that_others_rely_on(run):
    assert not evaluate(run).skipped
    metrics = json.loads(run.metrics_path.read_text())
    assert set(metrics) == {
        *("clustering", "retrieval", "features", "similarity", "comparison", "floor", "protocol")
    }
    assert list(metrics["clustering"]) == list(metrics["retrieval"]) == SETTINGS
    for entry in metrics["clustering"].values():
        for split in (entry, entry["uncalibrated"]):
            for name in {"train", "val", "test"} & set(split):
                for score in ("ari", "nmi"):
                    assert set(split[name][score]) == {"mean", "std"}
                    assert -0.5 <= split[name][score]["mean"] <= 1
    for entry in metrics["retrieval"].values():
        for split in (entry["val"], entry["test"], entry["uncalibrated"]["test"]):
            assert 0 <= split["map"] <= 1
            assert 0 <= split["recall_at_k"] <= 1
            assert split["n_queries"] == 6
    assert set(metrics["features"]) == {"pixel_mean", "colour_histogram"}
    assert metrics["features"]["pixel_mean"]["retrieval"]["orig_orig"]["test"]["n_queries"] == 6
    assert metrics["protocol"] == {
        "n_artists": 3,
        "adapters_per_role": {
            "train": 18,
            **dict.fromkeys(("val", "test", "query_calibration", "query_val", "query_test"), 6),
        },
        "k": 6,
        "seeds": [0, 1, 2],
        "interval": {"level": 0.95, "n_resamples": 10_000, "seed": 0},
        "config_hash": run.experiment.hash(),
    }


def test_tables_hold_curves_scores_and_queries(run):
    evaluate(run)
    curves, scores, queries = (
        pd.read_parquet(run.evaluation_path / f"{name}.parquet")
        for name in ("curves", "scores", "queries")
    )
    assert list(curves) == ["representation", "sub_network", *CURVE_COLUMNS]
    assert len(curves) == len(SETTINGS) * 6
    per_setting = scores[scores["calibrated"]].groupby(["representation", "sub_network"])
    assert (per_setting["adapter_id"].nunique() == 3 * (6 + 2 + 2 + 2 + 2)).all()
    assert set(queries["role"]) == {"query_val", "query_test"}
    assert set(queries["feature"].dropna()) == {"pixel_mean", "colour_histogram"}


def test_intervals_hold_their_scores_and_the_floor_is_below(run):
    evaluate(run)
    metrics = json.loads(run.metrics_path.read_text())
    queries = pd.read_parquet(run.evaluation_path / "queries.parquet")
    for key, entry in metrics["retrieval"].items():
        found = entry["test"]
        for kind in ("ci", "ci_queries"):
            for score in ("map", "map_at_k", "recall_at_k"):
                low, high = found[kind][score]
                assert low <= found[score] <= high
        mine = (queries["representation"] + "/" + queries["sub_network"]) == key
        mine &= queries["calibrated"] & (queries["role"] == "query_test")
        by_artist = queries[mine].groupby("artist")["average_precision"].mean()
        assert by_artist.min() <= found["ci"]["map"][0] <= found["ci"]["map"][1] <= by_artist.max()
    floor = metrics["floor"]["retrieval"]["test"]
    assert floor["recall_at_k"] == pytest.approx(6 / 18)
    assert all(floor["map"] < entry["test"]["map"] for entry in metrics["retrieval"].values())
    assert set(metrics["floor"]["clustering"]) == {"train", "val", "test"}


def test_calibration_and_similarity_are_written_beside_their_summaries(run):
    evaluate(run)
    metrics = json.loads(run.metrics_path.read_text())
    calibration, similarity = (
        pd.read_parquet(run.evaluation_path / f"{name}.parquet")
        for name in ("calibration", "similarity")
    )
    assert len(calibration) == 2 * len(SETTINGS) * 6
    lines = calibration.set_index(["representation", "sub_network", "task", "component"])
    for task in ("clustering", "retrieval"):
        for key, entry in metrics[task].items():
            found, first = entry["calibration_diagnostics"], (*key.split("/"), task, 1)
            assert found["scale"]["first"] == lines.loc[first, "scale"]
            assert set(found["drift"]) == {"calibration", "val", "test"}
    section = metrics["similarity"]
    assert section["weights"] in SETTINGS
    assert section["n_adapters"] == 18
    assert len(section["pairs"]) == 3
    assert sum(len(pair["similarity"]) for pair in section["pairs"]) == len(similarity)
    assert similarity["similarity"].between(0, 1 + 1e-12).all()


def test_without_image_features_there_is_nothing_to_be_like(planned, tmp_path, new_experiment):
    run = planned(
        tmp_path / "run",
        new_experiment(corpus=SMALL, embedding=FEW, evaluation={"features": []}),
    )
    finish_embedding(run)
    evaluate(run)
    metrics = json.loads(run.metrics_path.read_text())
    assert metrics["similarity"] == {
        "reason": "there is no image feature to compare the weights with"
    }


def test_a_second_call_does_nothing(run):
    evaluate(run)
    before = run.metrics_path.stat().st_mtime_ns
    assert evaluate(run).skipped
    assert run.metrics_path.stat().st_mtime_ns == before


def test_making_it_again_gives_the_same_bytes(run):
    evaluate(run)
    before = run.metrics_path.read_bytes()
    assert not evaluate(run, force=True).skipped
    assert run.metrics_path.read_bytes() == before


def test_a_new_embedding_makes_it_stale(run):
    evaluate(run)
    run.finish("embed", {}, {"n_adapters": 1}, 0.0)
    with pytest.raises(StageError, match=r"changed \(embed\)"):
        evaluate(run)


def write_sweep(run, *settings, **changes):
    """A sweep of these settings whose best counts are others than validation gives."""
    settings = settings or (own_setting(run.experiment, "factors", "full"),)
    found = []
    for setting in settings:
        scored = evaluate_setting(
            GramSet.load(run.embedding_path),
            None,
            setting.embedded_as,
            setting.sub_network,
            run.experiment,
        )
        for points in scored["curves"].values():
            points[5] |= {"ari_mean": 2.0, "ari_se": 0.0, "map": 2.0, "map_se": 0.0}
        found.append({"share": 1.0, **scored})
    run.sweep_path.mkdir()
    results_table(settings, found).to_parquet(run.sweep_path / RESULTS_FILE)
    best = choose_best(settings, found, run.experiment)
    (run.sweep_path / BEST_FILE).write_text(yaml.safe_dump(best))
    run.finish("sweep", current_inputs(run) | changes, {}, 0.0)


def test_pc_counts_come_from_a_finished_sweep(run):
    write_sweep(run)
    evaluate(run)
    metrics = json.loads(run.metrics_path.read_text())
    assert metrics["clustering"]["factors/full"]["n_components"] == 6
    assert metrics["retrieval"]["factors/full"]["n_components"] == 6


def test_what_the_sweep_found_best_is_scored_though_the_embedding_did_not_name_it(run):
    union = own_setting(run.experiment, "factors", "feed_forward+self_attention")
    write_sweep(run, union)
    evaluate(run)
    metrics = json.loads(run.metrics_path.read_text())
    entry = metrics["clustering"]["factors/feed_forward+self_attention"]
    assert (entry["n_components"], entry["calibration"]) == (6, "full")
    sums = GramSet.load(run.embedding_path).sums["factors"]
    both = sums["feed_forward"] + sums["self_attention"]
    table = GramSet.load(run.embedding_path).table
    alone = GramSet(table, {"factors": {"feed_forward": both}})
    setting = fit_setting(alone, None, "factors", "feed_forward", run.experiment)
    vectors = setting.vectors["clustering"].first(6)
    expected = clustering_entry(vectors, ProtocolSettings.of(run.experiment))
    assert entry["test"]["ari"]["mean"] == pytest.approx(expected["test"]["ari"]["mean"])


def test_a_damaged_sweep_is_named(run):
    write_sweep(run)
    (run.sweep_path / BEST_FILE).write_text("best: [")
    with pytest.raises(StageError, match=r"cannot be read .* sweep .* --force"):
        evaluate(run)


@pytest.mark.parametrize(
    "changes", [{"embed": "another"}, {"evaluation": {"top_k": 1}}, {"choice": {"rule": "best"}}]
)
def test_a_sweep_from_other_inputs_is_not_read(run, changes):
    write_sweep(run, **changes)
    evaluate(run)
    curves = pd.read_parquet(run.evaluation_path / "curves.parquet")
    assert curves["map"].max() <= 1


def test_sub_networks_that_were_not_trained_are_absent_with_the_reason(
    planned, tmp_path, new_experiment
):
    run = planned(tmp_path / "run", new_experiment(corpus=SMALL))
    finish_embedding(run, ("feed_forward",))
    evaluate(run)
    metrics = json.loads(run.metrics_path.read_text())
    assert set(metrics["clustering"]) == {
        *("factors/full", "factors/feed_forward", "delta/full", "delta/feed_forward")
    }
    assert "no self_attention layers" in metrics["reasons"]["factors/self_attention"]


def test_an_unknown_feature_is_refused_before_any_work(tmp_path, new_experiment):
    experiment = new_experiment(evaluation={"features": ["nonsense"]})
    run = Run.create(tmp_path / "run", experiment)
    with pytest.raises(ConfigError, match="'nonsense'"):
        evaluate(run)


def test_evaluating_before_embedding_names_the_command(planned, tmp_path, new_experiment):
    run = planned(tmp_path / "run", new_experiment(corpus=SMALL))
    with pytest.raises(StageError, match="no finished 'embed' stage; run `lorastyle embed"):
        evaluate(run)
