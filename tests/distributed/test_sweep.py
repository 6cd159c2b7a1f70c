from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lorastyle.distributed.session import Session
from lorastyle.distributed.sweep import grid, score_setting, summarise, sweep
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.stage import embed
from lorastyle.errors import StageError
from lorastyle.evaluation.selection import CURVE_COLUMNS, evaluate_setting
from lorastyle.evaluation.stage import sweep_curves
from lorastyle.places.place import place_of
from lorastyle.runs import Run

pytestmark = pytest.mark.ray


@pytest.fixture
def embedded_run(trained_run: Run) -> Run:
    embed(trained_run)
    return trained_run


def test_the_grid_is_what_was_embedded_unless_said_otherwise(
    tiny_experiment: Callable[..., object],
) -> None:
    experiment = tiny_experiment()
    assert len(grid(experiment)) == 8  # type: ignore[arg-type]


def test_a_sweep_scores_every_setting_as_the_evaluation_would(
    local_ray: Session, embedded_run: Run
) -> None:
    run = embedded_run
    outcome = sweep(run)
    grams = GramSet.load(run.embedding_path)
    expected = [
        evaluate_setting(grams, None, *setting, run.experiment) for setting in grid(run.experiment)
    ]
    best = yaml.safe_load((run.sweep_path / "best.yaml").read_text())
    assert best == summarise(expected)
    table = pd.read_parquet(run.sweep_path / "results.parquet")
    assert len(table) == outcome.outputs["n_points"] == sum(len(e["curve"]) for e in expected)
    first = table[(table["representation"] == "factors") & (table["sub_network"] == "full")]
    points = pd.DataFrame(expected[0]["curve"])
    pd.testing.assert_frame_equal(
        first[list(points.columns)].reset_index(drop=True), points, check_exact=True
    )
    assert set(sweep_curves(run)) == {"/".join(setting) for setting in grid(run.experiment)}
    assert sweep(run).skipped

    # Interrupted after the trials and before the manifest: nothing is computed again.
    scores = sorted(run.sweep_path.glob("grid-*/scores/*.json"))
    assert len(scores) == 8
    before = [path.stat().st_mtime_ns for path in scores]
    scores[0].unlink()
    run.manifest_path("sweep").unlink()
    sweep(run)
    assert [path.stat().st_mtime_ns for path in scores[1:]] == before[1:]
    assert yaml.safe_load((run.sweep_path / "best.yaml").read_text()) == best


def test_a_trial_reads_what_an_earlier_attempt_wrote(embedded_run: Run, tmp_path: Path) -> None:
    setting = ("delta", "feed_forward")
    scored = score_setting(embedded_run.directory, place_of(tmp_path / "scores"), setting)
    shutil.rmtree(embedded_run.embedding_path)
    assert score_setting(embedded_run.directory, place_of(tmp_path / "scores"), setting) == scored
    assert {*scored["curve"][0]} <= {*CURVE_COLUMNS}


def test_settings_that_were_not_embedded_are_named(
    embedded_run: Run, tiny_experiment: Callable[..., object]
) -> None:
    experiment = embedded_run.experiment
    other = experiment.model_copy(
        update={
            "embedding": experiment.embedding.model_copy(update={"representations": ("factors",)}),
            "sweep": experiment.sweep.model_copy(update={"representations": ("factors",)}),
        }
    )
    grams = GramSet.load(embedded_run.embedding_path)
    without = GramSet(grams.table, {"delta": grams.sums["delta"]})
    without.save(embedded_run.embedding_path)
    with pytest.raises(StageError, match="none of 4 settings of the sweep was embedded"):
        sweep(Run(embedded_run.directory, other))


def test_among_equal_settings_the_first_is_best() -> None:
    point = {"n_components": 2, "ari_mean": 0.5}
    results = [
        {"representation": name, "sub_network": "full", "best": {"clustering": point}}
        for name in ("factors", "delta")
    ]
    assert summarise(results)["best"]["clustering"]["representation"] == "factors"
    assert "retrieval" not in summarise(results)["best"]
