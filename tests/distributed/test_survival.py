"""Whatever dies, and whenever: the store ends as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from lorastyle.distributed import fleet
from lorastyle.distributed.fleet import train
from lorastyle.distributed.session import Session
from lorastyle.distributed.work import Report, Task
from lorastyle.errors import TrainingError
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from lorastyle.store.epochs import EPOCHS, EpochLog
from tests.distributed.victims import Poisoned, Victim

REPOSITORY = Path(__file__).parents[2]
N_ADAPTERS = 24

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(600)]


def contents(run: Run) -> str:
    return digest_of_contents(AdapterStore.open(run.store_path))


PHASES = (
    "loading",
    "training",
    "before the chunk",
    "between chunk and manifest",
    "after the first manifest entry",
)


@pytest.mark.parametrize("phase", PHASES)
def test_an_actor_killed_in_any_phase_changes_nothing(
    local_ray: Session,
    planned_run: Callable[..., Run],
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
) -> None:
    run = planned_run()
    victim = type("Victim", (Victim,), {"phase": phase, "__module__": __name__})
    monkeypatch.setattr(fleet, "TrainingActor", victim)
    assert train(run).outputs["by_status"] == {"ok": N_ADAPTERS}
    assert (run.directory / f"{phase}.marker").exists()
    assert contents(run) == contents(Run.open(trained))


def test_a_spec_that_always_raises_is_quarantined_and_said(
    local_ray: Session,
    planned_run: Callable[..., Run],
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = planned_run()
    with monkeypatch.context() as patch:
        patch.setattr(fleet, "TrainingActor", Poisoned)
        with pytest.raises(TrainingError, match=r"1 of 24 .*ArithmeticError: always"):
            train(run)
    store = AdapterStore.open(run.store_path)
    assert store.rows("failed") == [0] and len(store.rows()) == N_ADAPTERS - 1
    assert train(run).outputs["by_status"] == {"ok": N_ADAPTERS}
    # Its stack was halved to find it, and what is stacked together shows in the last bits.
    undisturbed = AdapterStore.open(Run.open(trained).store_path)
    rows = range(N_ADAPTERS)
    np.testing.assert_allclose(store.read_rows(rows), undisturbed.read_rows(rows), atol=1e-6)
    different = [r for r in rows if checksum(store, r) != checksum(undisturbed, r)]
    assert set(different) <= set(range(4))


def checksum(store: AdapterStore, row: int) -> str | None:
    record = store.record(row)
    assert record is not None
    return record.checksum


class AwayFromHome(Victim):
    """Works in another directory, as an actor on another machine does."""

    def ready(self) -> dict[str, Any]:
        os.chdir("/")
        return super().ready()

    def work(self, tasks: Sequence[Task]) -> Report:
        root, _, _, fence = self._where
        assert EpochLog(fence.place).latest() is not None, f"no epochs seen from {root}"
        return super().work(tasks)


def test_actors_elsewhere_see_the_fence_of_a_run_that_was_named_by_a_relative_path(
    local_ray: Session,
    planned_run: Callable[..., Run],
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = planned_run()
    monkeypatch.chdir(run.directory.parent)
    monkeypatch.setattr(fleet, "TrainingActor", AwayFromHome)
    assert train(Run.open(Path(run.directory.name))).outputs["by_status"] == {"ok": N_ADAPTERS}
    assert contents(run) == contents(Run.open(trained))


def start_driver(run: Run, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.train", "--config", run.config_path, "--run", run.directory],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_of_two_drivers_the_later_one_takes_over_and_the_other_says_so(
    local_ray: Session,
    planned_run: Callable[..., Run],
    trained: Path,
    own_environment: dict[str, str],
) -> None:
    run = planned_run()
    epochs = EpochLog(run.place.child(EPOCHS))
    commits = run.store_path / "commits"
    driver = start_driver(run, own_environment)
    try:
        wait_for(lambda: any(commits.glob("0*.json")))
        psutil.Process(driver.pid).suspend()  # a driver that is only away for a while
        assert train(run).outputs["by_status"] == {"ok": N_ADAPTERS}
        psutil.Process(driver.pid).resume()
        _, said = driver.communicate(timeout=120)
    finally:
        driver.kill()
        driver.communicate()
    latest = epochs.latest()
    assert latest is not None and latest.number == 2
    assert driver.returncode == 1 and "taken over by epoch 2" in said
    assert contents(run) == contents(Run.open(trained))
