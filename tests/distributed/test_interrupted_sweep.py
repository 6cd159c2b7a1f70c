"""A sweep whose driver is killed, anywhere, ends as if it had not been."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lorastyle.config import parse_experiment
from lorastyle.distributed.session import Session
from lorastyle.distributed.sweep import sweep
from lorastyle.embedding.stage import embed
from lorastyle.runs import Run
from tests.distributed.drivers import start_driver, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(600)]

GRID = {"sub_networks": ["full", "by-projection", "by-level", "full-mid"]}


@pytest.fixture(scope="module")
def prepared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded run that is to sweep some twenty settings."""
    directory = tmp_path_factory.mktemp("prepared") / "run"
    shutil.copytree(trained, directory)
    experiment = parse_experiment({**Run.open(directory).experiment.model_dump(), "sweep": GRID})
    run = Run.create(directory, experiment, force=True)
    embed(run)
    return directory


@pytest.fixture(scope="module")
def undisturbed(
    local_ray: Session, prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    shutil.copytree(prepared, directory)
    sweep(Run.open(directory))
    return Run.open(directory)


def scores(run: Run) -> dict[str, int]:
    """The trials that are finished, and when."""
    paths = run.sweep_path.glob("grid-*/scores/0*.json")
    return {path.name: path.stat().st_mtime_ns for path in paths}


MOMENTS: dict[str, Callable[[Run], bool]] = {
    "before the first trial": lambda run: any(run.sweep_path.glob("grid-*/tune/*.pkl")),
    "after the first trial": lambda run: len(scores(run)) >= 1,
    "in the middle": lambda run: len(scores(run)) >= 10,
    "at the end": lambda run: any(run.sweep_path.glob("grid-*/scores/test-*.json")),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_driver_changes_nothing_and_repeats_only_trials_in_flight(
    local_ray: Session,
    prepared: Path,
    undisturbed: Run,
    tmp_path: Path,
    own_environment: dict[str, str],
    moment: str,
) -> None:
    shutil.copytree(prepared, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    job = ("jobs.sweep", "--config", str(run.config_path), "--run", str(run.location))
    driver = start_driver(run, own_environment, *job)
    try:
        wait_until(lambda: MOMENTS[moment](run) or driver.poll() is not None)
        assert driver.poll() is None, driver.communicate()[0]
    finally:
        driver.kill()
        driver.communicate()
    assert run.manifest("sweep") is None
    before = scores(run)

    sweep(run)
    after = scores(run)
    n_trials = len(list(undisturbed.sweep_path.glob("grid-*/scores/0*.json")))
    assert len(after) == n_trials
    # What was there is not written again; workers of the dead driver may have ended one more each.
    repeated = [name for name in before if after[name] != before[name]]
    assert repeated == []
    ours, theirs = (
        pd.read_parquet(each.sweep_path / "results.parquet") for each in (run, undisturbed)
    )
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    ours, theirs = (
        yaml.safe_load((each.sweep_path / "best.yaml").read_text()) for each in (run, undisturbed)
    )
    assert ours == theirs
