from __future__ import annotations

import pytest
import ray

from lorastyle.distributed.faults import Fault, Patience, fault_of, reason_of
from lorastyle.distributed.watch import Loss
from lorastyle.errors import FencedError, StoreError, TrainingError


def raised(cause: Exception) -> Exception:
    """What `ray.get` raises where an actor's method raised `cause`."""
    error = ray.exceptions.RayTaskError("work", "a traceback", cause)
    return Exception() if error is None else error


def lost(seconds: float, cause: Exception | None = None) -> Fault:
    cause = cause or ray.exceptions.ActorDiedError()
    return Fault(Loss.INFRASTRUCTURE, f"at {seconds}", cause)


@pytest.mark.parametrize(
    ("error", "loss"),
    [
        (raised(ValueError("a bad image")), Loss.APPLICATION),
        (raised(TrainingError("items do not fit")), Loss.APPLICATION),
        (raised(StoreError("no space left")), Loss.INFRASTRUCTURE),
        (raised(OSError(28, "No space left on device")), Loss.INFRASTRUCTURE),
        (ray.exceptions.ActorDiedError(), Loss.INFRASTRUCTURE),
        (ray.exceptions.NodeDiedError("gone"), Loss.INFRASTRUCTURE),
        (ray.exceptions.OutOfMemoryError("too much"), Loss.INFRASTRUCTURE),
        (ray.exceptions.ActorUnavailableError("away", None), Loss.INFRASTRUCTURE),
    ],
)
def test_work_that_raises_is_told_from_machines_that_fail(error: Exception, loss: Loss) -> None:
    assert fault_of(error).loss is loss


def test_only_a_newer_attempt_ends_the_run_at_once() -> None:
    assert fault_of(raised(FencedError("taken over"))).ends_the_run
    assert not fault_of(raised(StoreError("no space left"))).ends_the_run


def test_a_reason_is_one_line_without_rays_traceback() -> None:
    assert reason_of(raised(ValueError("a\n  b"))) == "ValueError: a b"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_node_that_takes_eight_actors_along_is_one_loss() -> None:
    clock = Clock()
    patience = Patience(clock, losses=3)
    for second in (0.0, 60.0):
        clock.now = second
        for _ in range(8):
            patience.failed(lost(second))
    clock.now = 120.0
    with pytest.raises(TrainingError, match=r"3 attempts failed one after another.*at 120"):
        patience.failed(lost(120.0))


def test_each_loss_makes_the_pause_longer_up_to_a_minute_and_a_success_ends_it() -> None:
    clock = Clock()
    patience = Patience(clock, losses=100)
    pauses = []
    for n in range(12):
        clock.now = 100.0 * n
        patience.failed(lost(clock.now))
        pauses.append(patience.hire_after - clock.now)
    assert pauses[:3] == [0.5, 1.0, 2.0] and pauses[-1] == 60.0 and pauses == sorted(pauses)
    patience.succeeded()
    assert patience.hire_after < clock.now


def test_a_full_disk_is_said_as_the_store_says_it() -> None:
    patience = Patience(Clock(), losses=1)
    with pytest.raises(StoreError, match="make room"):
        patience.failed(lost(0.0, StoreError("no space; make room")))


def test_errors_of_the_work_have_a_budget_of_their_own() -> None:
    clock = Clock()
    patience = Patience(clock, errors=2, losses=100)
    patience.failed(Fault(Loss.APPLICATION, "bad", ValueError("bad")))
    for second in range(10):
        clock.now = 10.0 * second
        patience.failed(lost(clock.now))
    with pytest.raises(TrainingError, match=r"2 attempts .*: bad"):
        patience.failed(Fault(Loss.APPLICATION, "bad", ValueError("bad")))
