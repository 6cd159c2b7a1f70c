from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from lorastyle.config import ComputeConfig
from lorastyle.distributed.fleet import crew_size, train
from lorastyle.distributed.session import Session
from lorastyle.errors import StageError, TrainingError
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents

REPOSITORY = Path(__file__).parents[2]
N_ADAPTERS = 24
N_STEPS = 40

pytestmark = pytest.mark.ray


def contents(run: Run) -> str:
    return digest_of_contents(AdapterStore.open(run.store_path))


def commits(run: Run) -> list[Path]:
    return sorted((run.store_path / "commits").glob("*.json"))


def wait_for_the_first_commit(run: Run, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not commits(run) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert commits(run), "no adapter was trained"


def training_actors(of: psutil.Process) -> list[psutil.Process]:
    return [
        process
        for process in of.children(recursive=True)
        if process.name().startswith("ray::TrainingActor")
    ]


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, str]:
    """Digest of the store of a run that nothing happened to, once it is made."""
    return {}


def test_the_fleet_trains_the_whole_plan(
    local_ray: Session, planned_run: Callable[..., Run], undisturbed: dict[str, str]
) -> None:
    run = planned_run(n_steps=N_STEPS)
    outcome = train(run)
    store = AdapterStore.open(run.store_path)
    assert outcome.outputs["by_status"] == {"ok": N_ADAPTERS}
    assert store.rows() == list(range(N_ADAPTERS))
    assert all(store.verify(row) for row in store.rows())
    undisturbed["digest"] = contents(run)


def test_a_killed_actor_changes_nothing(
    local_ray: Session, planned_run: Callable[..., Run], undisturbed: dict[str, str]
) -> None:
    run = planned_run(n_steps=N_STEPS)
    killed = []

    def kill_one() -> None:
        wait_for_the_first_commit(run)
        victim = training_actors(psutil.Process())[0]
        victim.kill()
        killed.append(victim.pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    train(run)
    killer.join()
    assert killed and contents(run) == undisturbed["digest"]


def test_a_killed_run_is_finished_by_the_same_command(
    local_ray: Session,
    planned_run: Callable[..., Run],
    undisturbed: dict[str, str],
    own_environment: dict[str, str],
) -> None:
    run = planned_run(n_steps=N_STEPS)
    job = [sys.executable, "-m", "jobs.train", "--config", run.config_path]
    driver = subprocess.Popen(
        [*job, "--run", run.directory, "n_actors=2"],
        cwd=REPOSITORY,
        env=own_environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_the_first_commit(run)
        actors = training_actors(psutil.Process(driver.pid))
    finally:
        driver.kill()
        driver.wait()
    psutil.wait_procs(actors, timeout=20)
    n_before = len(commits(run))
    assert 0 < n_before < N_ADAPTERS and run.manifest("train") is None
    train(run)
    assert contents(run) == undisturbed["digest"]


def test_what_is_done_is_not_done_again(
    local_ray: Session, planned_run: Callable[..., Run]
) -> None:
    run = planned_run()
    train(run)
    before = [path.stat().st_mtime_ns for path in commits(run)]
    assert train(run).skipped
    run.manifest_path("train").unlink()
    assert not train(run).skipped
    assert [path.stat().st_mtime_ns for path in commits(run)] == before


def test_a_damaged_image_fails_its_adapters_and_no_others(
    local_ray: Session, planned_run: Callable[..., Run]
) -> None:
    run = planned_run()
    image = run.corpus_path / next(
        json.loads(line)["path"] for line in _catalogue_lines(run) if '"val"' in line
    )
    whole = image.read_bytes()
    image.write_bytes(whole[:100])
    with pytest.raises(TrainingError, match=r"of 24 adapters failed, first .*cannot read image"):
        train(run)
    store = AdapterStore.open(run.store_path)
    n_failed = len(store.rows("failed"))
    assert 0 < n_failed <= 2 and len(store.rows()) == N_ADAPTERS - n_failed
    image.write_bytes(whole)
    assert train(run).outputs["by_status"] == {"ok": N_ADAPTERS}


def _catalogue_lines(run: Run) -> list[str]:
    from lorastyle.corpus.stage import read_catalogue

    return list(read_catalogue(run).to_json(orient="records", lines=True).splitlines())


def test_diverging_adapters_are_recorded_and_stop_nothing(
    local_ray: Session, planned_run: Callable[..., Run]
) -> None:
    run = planned_run(learning_rate=1e30)
    statuses = train(run).outputs["by_status"]
    assert statuses.get("non_finite", 0) > 0 and "failed" not in statuses


def test_other_settings_are_refused_unless_forced(
    local_ray: Session,
    planned_run: Callable[..., Run],
    tiny_experiment: Callable[..., object],
) -> None:
    run = planned_run()
    train(run)
    other = Run.create(run.directory, tiny_experiment(rank=3), force=True)  # type: ignore[arg-type]
    with pytest.raises(StageError, match="training"):
        train(other)
    outcome = train(other, force=True)
    assert outcome.outputs["by_status"] == {"ok": N_ADAPTERS}
    assert AdapterStore.open(run.store_path).rank == 3


def test_a_fleet_fills_the_cluster_it_is_given() -> None:
    assert crew_size(ComputeConfig(), {"CPU": 16, "GPU": 4}) == (4, 1.0)
    assert crew_size(ComputeConfig(n_actors=3), {"CPU": 16}) == (3, 0.0)
    assert crew_size(ComputeConfig(gpus_per_actor=0), {"CPU": 2, "GPU": 4}) == (2, 0)
    assert np.isclose(crew_size(ComputeConfig(gpus_per_actor=0.25), {"GPU": 1})[1], 0.25)
