"""The sweep as a stage: what it tries, how it chooses, and what interrupting it changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lorastyle.config import parse_experiment
from lorastyle.distributed.grid import Grid
from lorastyle.distributed.session import Session
from lorastyle.distributed.sweep import sweep
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.stage import embed
from lorastyle.errors import StageError
from lorastyle.evaluation.curves import CURVE_COLUMNS
from lorastyle.evaluation.protocol import (
    ProtocolSettings,
    clustering_entry,
    fit_setting,
    retrieval_entry,
)
from lorastyle.evaluation.selection import evaluate_setting
from lorastyle.evaluation.stage import evaluate
from lorastyle.evaluation.swept import RESULT_COLUMNS, TRAINED, SweptSetting, finished_sweep
from lorastyle.runs import Run

pytestmark = pytest.mark.ray

GRID = {
    "representations": ["delta"],
    "sub_networks": ["full", "up&to_v", "full-feed_forward"],
    "truncated_ranks": [1],
    "calibration_forms": ["full", "none"],
}


def with_sweep(run: Run, **settings: Any) -> Run:
    experiment = parse_experiment({**run.experiment.model_dump(), "sweep": settings})
    return Run.create(run.directory, experiment, force=True)


@pytest.fixture
def embedded_run(trained_run: Run) -> Run:
    embed(trained_run)
    return trained_run


@pytest.fixture(scope="module")
def swept(local_ray: Session, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a finished sweep of `GRID`; read it, do not change it."""
    directory = tmp_path_factory.mktemp("swept") / "run"
    shutil.copytree(trained, directory)
    run = Run.open(directory)
    embed(run)
    run = with_sweep(run, **GRID)
    sweep(run)
    return run


def results(run: Run) -> pd.DataFrame:
    return pd.read_parquet(run.sweep_path / "results.parquet")


def best(run: Run) -> dict[str, Any]:
    return dict(yaml.safe_load((run.sweep_path / "best.yaml").read_text()))


def test_what_the_grid_needs_and_the_embedding_lacks_is_embedded_first(swept: Run) -> None:
    grams = GramSet.load(swept.embedding_path)
    assert grams.has("delta@1", "up&to_v")
    embedded = swept.manifest("embed")
    assert embedded is not None
    # What search and evaluation go by stays what the embedding named.
    assert embedded["outputs"]["representations"] == ["factors", "delta"]


def test_results_are_those_of_the_evaluation_called_directly(swept: Run) -> None:
    table = results(swept)
    assert tuple(table.columns) == RESULT_COLUMNS
    assert len(table) == 6 * 2 * 4
    grams = GramSet.load(swept.embedding_path)
    for (method, name, form), lines in table.groupby(["rank_method", "sub_network", "calibration"]):
        representation = "delta@1" if method == "truncated" else "delta"
        expected = evaluate_setting(grams, None, representation, name, swept.experiment)
        points = pd.DataFrame(expected["curves"][form], columns=list(CURVE_COLUMNS))
        pd.testing.assert_frame_equal(
            lines[list(CURVE_COLUMNS)].reset_index(drop=True), points, check_exact=True
        )
    assert set(table["rank"]) == {1, 2}
    shares = table.groupby("sub_network")["share"].unique()
    assert shares["full"] == [1.0]
    assert 0 < shares["up&to_v"][0] < shares["full-feed_forward"][0] < 1


def test_the_chosen_settings_are_scored_on_test_as_the_evaluation_does(swept: Run) -> None:
    grams, settings = GramSet.load(swept.embedding_path), ProtocolSettings.of(swept.experiment)
    for task, found in best(swept)["best"].items():
        truncated = found["rank_method"] == "truncated"
        representation = "delta@1" if truncated else "delta"
        setting = fit_setting(
            grams, None, representation, found["sub_network"], swept.experiment
        ).calibrated_as({task: found["calibration"]})
        vectors = setting.vectors[task].first(found["n_components"])
        if task == "clustering":
            expected = clustering_entry(vectors, settings)["test"]
        else:
            expected = retrieval_entry(vectors, settings, "euclidean")[0]["test"]
        assert found["test"] == expected


def test_figures_and_the_table_are_there(swept: Run) -> None:
    for name in ("curves.png", "curves.svg", "ablation.md", "ablation.csv"):
        assert (swept.sweep_path / name).stat().st_size > 0
    assert "up&to_v" in (swept.sweep_path / "ablation.csv").read_text()


def test_evaluation_takes_the_sweep_s_choice(swept: Run) -> None:
    sweep_of = finished_sweep(swept)
    assert sweep_of is not None
    evaluate(swept)
    metrics = json.loads(swept.metrics_path.read_text())
    for task in ("clustering", "retrieval"):
        pick = sweep_of.pick(task)  # type: ignore[arg-type]
        assert pick is not None
        entry = metrics[task][pick.setting.key]
        assert (entry["n_components"], entry["calibration"]) == (
            pick.n_components,
            pick.calibration,
        )
        found = best(swept)["best"][task]["test"]
        assert {name: entry["test"][name] for name in found} == found


def test_done_is_done_and_another_rule_repeats_no_trial(
    swept: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(swept, tmp_path)
    assert sweep(run).skipped
    forbid_trials(monkeypatch)
    other = with_sweep(run, **GRID, rule="best")
    with pytest.raises(StageError, match=r"changed \(choice\)"):
        sweep(other)
    sweep(other, force=True)
    assert best(other)["rule"] == "best"
    for point in best(other)["best"].values():
        assert point["n_components"] == point["argmax"]["n_components"]
    pd.testing.assert_frame_equal(results(other), results(swept), check_exact=True)


@pytest.mark.cluster
def test_forced_though_nothing_changed_every_trial_is_made_again(
    local_ray: Session, swept: Run, tmp_path: Path
) -> None:
    run = copy_of(swept, tmp_path)
    scores = next(iter(run.sweep_path.glob("grid-*/scores/00002.json")))
    scores.write_text(scores.read_text().replace("0.", "0.1"))  # nobody would believe it
    sweep(run, force=True)
    assert best(run) == best(swept)
    pd.testing.assert_frame_equal(results(run), results(swept), check_exact=True)


def test_planted_test_labels_change_nothing_before_the_end(
    local_ray: Session, embedded_run: Run, tmp_path: Path
) -> None:
    """The artists of all test adapters are exchanged: only the scores on test may notice."""
    run = with_sweep(embedded_run, sub_networks=["feed_forward"], representations=["delta"])
    sweep(run)
    planted = copy_of(run, tmp_path)
    grams = GramSet.load(planted.embedding_path)
    table = grams.table.copy()
    here = table["role"].isin(["test", "query_test"])
    table.loc[here, "artist"] = np.roll(table.loc[here, "artist"].to_numpy(), 1)
    replace(grams, table=table).save(planted.embedding_path)
    for grid in planted.sweep_path.glob("grid-*"):
        shutil.rmtree(grid)
    sweep(planted, force=True)
    pd.testing.assert_frame_equal(results(planted), results(run), check_exact=True)
    ours, theirs = best(run), best(planted)
    assert any(
        ours["best"][task].pop("test") != theirs["best"][task].pop("test") for task in ours["best"]
    )
    assert ours == theirs


def test_trials_whose_scores_are_there_are_not_repeated(
    local_ray: Session, swept: Run, tmp_path: Path
) -> None:
    run = copy_of(swept, tmp_path)
    scores = sorted(run.sweep_path.glob("grid-*/scores/0*.json"))
    assert len(scores) == 6
    before = [path.stat().st_mtime_ns for path in scores]
    scores[0].unlink()
    run.manifest_path("sweep").unlink()
    sweep(run)
    assert [path.stat().st_mtime_ns for path in scores[1:]] == before[1:]
    assert best(run) == best(swept)


@pytest.mark.cluster
def test_a_state_of_tune_s_that_cannot_be_read_is_no_obstacle(
    local_ray: Session, swept: Run, tmp_path: Path
) -> None:
    run = copy_of(swept, tmp_path)
    next(iter(run.sweep_path.glob("grid-*/scores/00003.json"))).unlink()
    for state in run.sweep_path.glob("grid-*/tune/tuner.pkl"):
        state.write_bytes(state.read_bytes()[:100])
    run.manifest_path("sweep").unlink()
    sweep(run)
    assert best(run) == best(swept)


def test_ranks_that_were_not_trained_are_refused_with_the_number(embedded_run: Run) -> None:
    run = with_sweep(embedded_run, ranks=[1, 2, 3])
    with pytest.raises(StageError, match=r"48 adapters of rank 1, 3 .* --train-missing"):
        sweep(run)
    assert not (run.directory / "ranks").exists()


@pytest.mark.cluster
def test_missing_ranks_are_trained_and_compared(local_ray: Session, embedded_run: Run) -> None:
    grid = {"ranks": [2, 1], "representations": ["delta"], "sub_networks": ["full", "up"]}
    run = with_sweep(embedded_run, **grid)
    sweep(run, session=local_ray, train_missing=True)
    below = Run.open(run.directory / "ranks" / "1")
    assert below.experiment.training.rank == 1
    assert below.manifest("train")["outputs"]["by_status"] == {"ok": 24}  # type: ignore[index]
    table = results(run)
    assert list(table.groupby("rank", sort=False).size().index) == [2, 1]
    assert set(table["rank_method"]) == {"trained"}
    assert set(best(run)["settings"]) == {
        *("delta/full", "delta/up", "delta/full@rank1", "delta/up@rank1")
    }
    # Its scores are those of that run's adapters, alone.
    grams = GramSet.load(below.embedding_path)
    expected = evaluate_setting(grams, None, "delta", "up", run.experiment)["curves"]["full"]
    lines = table[(table["rank"] == 1) & (table["sub_network"] == "up")]
    np.testing.assert_array_equal(lines["map"], [point["map"] for point in expected])
    assert sweep(run).skipped
    evaluate(run)


def test_settings_that_cannot_be_tried_are_named(embedded_run: Run) -> None:
    run = with_sweep(embedded_run, sub_networks=["up.9"])
    with pytest.raises(StageError, match=r"none of the 2 settings .* no modules of up\.9"):
        sweep(run)


@pytest.mark.cluster
def test_a_trial_that_fails_is_named(
    local_ray: Session, embedded_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    impossible = SweptSetting("delta", "up.9", 2, TRAINED, True)
    monkeypatch.setattr(
        "lorastyle.distributed.sweep.grid_of", lambda *_: Grid((impossible, impossible), {})
    )
    with pytest.raises(StageError, match=r"2 of 2 trials of the sweep failed, .*up\.9"):
        sweep(embedded_run)


def copy_of(run: Run, directory: Path) -> Run:
    shutil.copytree(run.directory, directory / "copy")
    return Run.open(directory / "copy")


def forbid_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> Iterator[None]:
        raise AssertionError("a trial was repeated")

    monkeypatch.setattr("lorastyle.distributed.sweep.try_all", forbidden)
