from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobs._arguments import main
from lorastyle.runs import STAGES

REPOSITORY = Path(__file__).parents[2]


def job(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", [*STAGES, "run"])
def test_every_stage_is_a_job_and_so_is_the_whole_run(name: str) -> None:
    assert importlib.import_module(f"jobs.{name}").main is main


def test_a_dry_run_prints_the_resolved_experiment_and_does_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["--config", str(config), "--run", str(run), "--dry-run", "rank=3"]
    assert main(["train"], arguments) == 0
    resolved, _, plan = capsys.readouterr().out.partition("\nRun:")
    printed = yaml.safe_load(resolved)
    assert printed["training"]["rank"] == 3 and printed["training"]["optimizer"] == "adam"
    assert "Adapters:" in plan and "Training:" in plan
    assert not run.exists()


def test_a_failure_is_one_sentence_and_status_1(config: Path, tmp_path: Path) -> None:
    done = job("jobs.embed", "--config", config, "--run", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "no finished 'train' stage" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_use_is_status_2(config: Path) -> None:
    assert job("jobs.train", "--config", config).returncode == 2


def test_an_unknown_setting_is_named(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(config), "--run", str(tmp_path / "run"), "rang=3"]
    assert main(["plan"], arguments) == 2
    assert "'rang'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stages", "offered"), [([*STAGES], True), (["sweep"], True), (["train"], False)]
)
def test_missing_ranks_can_be_trained_where_there_is_a_sweep(
    stages: list[str], offered: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(stages, ["--help"])
    assert ("--train-missing" in capsys.readouterr().out) == offered


@pytest.mark.parametrize(("stages", "offered"), [(["embed"], True), (["train"], False)])
def test_components_can_be_asked_for_where_there_is_an_embedding(
    stages: list[str], offered: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(stages, ["--help"])
    assert ("--write-components" in capsys.readouterr().out) == offered
