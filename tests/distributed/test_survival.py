"""Whatever dies, and whenever: the store ends as if nothing had happened."""

from __future__ import annotations

import os
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
from tests.distributed.drivers import start_driver, wait_for_the_first_row
from tests.distributed.victims import Poisoned, Victim

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
        root, _, _, fence, _ = self._where
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


def test_of_two_drivers_the_later_one_takes_over_and_the_other_says_so(
    local_ray: Session,
    planned_run: Callable[..., Run],
    trained: Path,
    own_environment: dict[str, str],
) -> None:
    run = planned_run()
    epochs = EpochLog(run.place.child(EPOCHS))
    driver = start_driver(run, own_environment)
    try:
        wait_for_the_first_row(run)
        psutil.Process(driver.pid).suspend()  # a driver that is only away for a while
        assert train(run).outputs["by_status"] == {"ok": N_ADAPTERS}
        psutil.Process(driver.pid).resume()
        said, _ = driver.communicate(timeout=120)
    finally:
        driver.kill()
        driver.communicate()
    latest = epochs.latest()
    assert latest is not None and latest.number == 2
    assert driver.returncode == 1 and "taken over by epoch 2" in said
    assert contents(run) == contents(Run.open(trained))
