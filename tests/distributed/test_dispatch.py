from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.distributed.dispatch import Crew, balanced_batches, dispatch, reason_of
from lorastyle.errors import BaseModelError, TrainingError

POISON = 13


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 12))
def test_batches_keep_order_are_no_longer_than_allowed_and_differ_by_one_at_most(
    n: int, size: int, n_workers: int
) -> None:
    batches = balanced_batches(range(n), size, n_workers)
    assert [item for batch in batches for item in batch] == list(range(n))
    lengths = [len(batch) for batch in batches]
    assert not lengths or (max(lengths) <= size and max(lengths) - min(lengths) <= 1)
    assert len(batches) % n_workers == 0 or len(batches) == n


class Worker:
    """Doubles numbers; misbehaves as told, once per marker file."""

    def __init__(self, trouble: str, markers: Path) -> None:
        self._trouble, self._markers = trouble, markers

    def ready(self) -> None:
        if self._trouble == "base":
            raise BaseModelError("there is no such base model")
        if self._trouble == "start":
            raise OSError("no device")

    def work(self, items: Sequence[int]) -> list[int]:
        for item in items:
            (self._markers / f"{item}.{os.getpid()}").touch()
        if self._trouble == "dies" and not (self._markers / "died").exists():
            (self._markers / "died").touch()
            os._exit(1)
        if self._trouble == "poison" and POISON in items:
            raise ValueError("not a\nnumber")
        if self._trouble == "always":
            os._exit(1)
        return [2 * item for item in items]


class Ledger:
    def __init__(self) -> None:
        self.results: list[int] = []
        self.given_up: dict[int, str] = {}

    def crew(self, trouble: str, markers: Path, patience: int = 12) -> Crew[int]:
        import ray

        actor = ray.remote(Worker).options(num_cpus=1, max_restarts=0)
        return Crew[int](
            hire=lambda: actor.remote(trouble, markers),
            size=2,
            deliver=lambda _, result: self.results.extend(result),
            give_up=lambda item, reason: self.given_up.update({item: reason}),
            patience=patience,
        )


def assert_no_actor_is_left() -> None:
    import ray

    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources().get("CPU") == 2


@pytest.mark.ray
def test_every_item_is_delivered_once(local_ray: Any, tmp_path: Path) -> None:
    ledger = Ledger()
    dispatch(ledger.crew("none", tmp_path), balanced_batches(range(20), 3, 2))
    assert sorted(ledger.results) == [2 * item for item in range(20)]
    assert not ledger.given_up
    assert_no_actor_is_left()


@pytest.mark.ray
def test_a_dead_actor_is_replaced_and_its_batch_done_again(local_ray: Any, tmp_path: Path) -> None:
    ledger = Ledger()
    dispatch(ledger.crew("dies", tmp_path), balanced_batches(range(8), 4, 2))
    assert sorted(ledger.results) == [2 * item for item in range(8)]
    attempts = Counter(path.stem for path in tmp_path.glob("*.*"))
    assert sorted(attempts.values()) == [1] * 4 + [2] * 4


@pytest.mark.ray
def test_a_poisonous_item_is_given_up_alone(local_ray: Any, tmp_path: Path) -> None:
    ledger = Ledger()
    dispatch(ledger.crew("poison", tmp_path), balanced_batches(range(10, 14), 4, 1))
    assert ledger.given_up == {POISON: "ValueError: not a number"}
    assert sorted(ledger.results) == [2 * item for item in range(10, 14) if item != POISON]


@pytest.mark.ray
def test_what_stops_every_actor_is_raised_as_it_is(local_ray: Any, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="no such base model"):
        dispatch(Ledger().crew("base", tmp_path), [[1], [2]])


@pytest.mark.ray
@pytest.mark.parametrize("trouble", ["start", "always"])
def test_endless_failure_ends_with_the_reason(local_ray: Any, tmp_path: Path, trouble: str) -> None:
    with pytest.raises(TrainingError, match="4 attempts failed one after another"):
        dispatch(Ledger().crew(trouble, tmp_path, patience=4), balanced_batches(range(64), 16, 2))


def test_no_work_needs_no_actor(tmp_path: Path) -> None:
    def refuse() -> Any:
        raise AssertionError("hired")

    dispatch(Crew[int](refuse, 2, lambda *_: None, lambda *_: None), [])


def test_a_reason_is_one_line_without_rays_traceback() -> None:
    assert reason_of(ValueError("a\n  b")) == "ValueError: a b"
