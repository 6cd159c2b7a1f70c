from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorastyle.distributed.batches import balanced_batches
from lorastyle.distributed.dispatch import Crew, dispatch
from lorastyle.distributed.pace import Pace
from lorastyle.distributed.watch import Loss, Watch
from lorastyle.errors import BaseModelError, FencedError, StoreError, TrainingError

POISON = 13
LONG_S = 60.0


class Worker:
    """Doubles numbers; misbehaves as told, once per marker file."""

    def __init__(self, trouble: str, markers: Path) -> None:
        self._trouble, self._markers = trouble, markers

    def ready(self) -> dict[str, int]:
        if self._trouble == "base":
            raise BaseModelError("there is no such base model")
        if self._trouble == "start":
            raise ValueError("no device")
        if self._trouble == "dies loading" and self._first("died"):
            os._exit(1)
        return {"pid": os.getpid()}

    def work(self, items: Sequence[int]) -> list[int]:
        for item in items:
            (self._markers / f"{item}.{os.getpid()}.{time.monotonic_ns()}").touch()
        self._misbehave(items)
        return [2 * item for item in items]

    def _misbehave(self, items: Sequence[int]) -> None:
        trouble, bad = self._trouble, POISON in items
        if trouble == "dies" and self._first("died"):
            os._exit(1)
        if trouble == "dies late" and self._first("died"):
            time.sleep(3)
            os._exit(1)
        if trouble == "poison" and bad:
            raise ValueError("not a\nnumber")
        if trouble == "kills" and bad:
            os._exit(1)
        if trouble == "hangs" and bad:
            time.sleep(LONG_S)
        if trouble == "hangs once" and bad and self._first("hung"):
            time.sleep(LONG_S)
        if trouble == "memory" and len(items) > 2:
            raise MemoryError("too many")
        if trouble == "disk":
            raise StoreError("row 1 was not stored: no space left; make room")
        if trouble == "fenced":
            raise FencedError("another attempt took over")
        if trouble == "always":
            os._exit(1)

    def _first(self, name: str) -> bool:
        try:
            (self._markers / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class Ledger(Watch[int]):
    """The owner of the work, and its witness."""

    def __init__(self) -> None:
        self.results: list[int] = []
        self.given_up: dict[int, str] = {}
        self.losses: list[Loss] = []
        self.n_hired = self.n_ready = self.n_duplicates = 0

    def hired(self, worker: str) -> None:
        self.n_hired += 1

    def ready(self, worker: str, facts: Mapping[str, Any]) -> None:
        assert facts["pid"] > 0
        self.n_ready += 1

    def assigned(self, worker: str, items: Sequence[int], *, duplicate: bool) -> None:
        self.n_duplicates += duplicate

    def lost(self, worker: str, loss: Loss, reason: str) -> None:
        self.losses.append(loss)

    def crew(self, trouble: str, markers: Path, *, cpus: float = 1, **settings: Any) -> Crew[int]:
        import ray

        actor = ray.remote(Worker).options(num_cpus=cpus, max_restarts=0)
        return Crew[int](
            hire=lambda: actor.remote(trouble, markers),
            deliver=lambda _, result: self.results.extend(result),
            give_up=lambda item, reason: self.given_up.update({item: reason}),
            watch=self,
            **{"size": 2, **settings},
        )


@pytest.fixture
def ledger(local_ray: Any) -> Iterator[Ledger]:
    """After every test all of the cluster's cores are free: no actor was left behind."""
    import ray

    yield Ledger()
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources().get("CPU") == 2


def attempts(markers: Path) -> Counter[int]:
    return Counter(int(path.name.split(".")[0]) for path in markers.glob("*.*.*"))


pytestmark = pytest.mark.ray


def test_every_item_is_delivered_once(ledger: Ledger, tmp_path: Path) -> None:
    dispatch(ledger.crew("none", tmp_path), balanced_batches(range(20), 3, 2))
    assert sorted(ledger.results) == [2 * item for item in range(20)]
    assert not ledger.given_up and set(ledger.losses) == {Loss.SURPLUS}


@pytest.mark.parametrize(("trouble", "again"), [("dies", 4), ("dies loading", 0)])
def test_a_dead_actor_is_replaced_and_its_batch_done_again(
    ledger: Ledger, tmp_path: Path, trouble: str, again: int
) -> None:
    dispatch(ledger.crew(trouble, tmp_path), balanced_batches(range(8), 4, 2))
    assert sorted(ledger.results) == [2 * item for item in range(8)]
    assert sorted(attempts(tmp_path).values()) == [1] * (8 - again) + [2] * again
    assert ledger.losses.count(Loss.INFRASTRUCTURE) == 1


def test_a_poisonous_item_is_given_up_alone(ledger: Ledger, tmp_path: Path) -> None:
    dispatch(ledger.crew("poison", tmp_path), balanced_batches(range(10, 14), 4, 1))
    assert ledger.given_up == {POISON: "ValueError: not a number"}
    assert sorted(ledger.results) == [2 * item for item in range(10, 14) if item != POISON]


def test_an_item_that_kills_every_actor_is_given_up_too(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorastyle.distributed.batches.LOSSES", 2)
    dispatch(ledger.crew("kills", tmp_path), [[11, 12, POISON, 14]])
    assert list(ledger.given_up) == [POISON] and "Died" in ledger.given_up[POISON]
    assert sorted(ledger.results) == [22, 24, 28]


def test_the_same_for_one_that_never_ends(ledger: Ledger, tmp_path: Path) -> None:
    crew = ledger.crew("hangs", tmp_path, pace=lambda: Pace(deadline_s=1.0))
    dispatch(crew, [[11, POISON], [14]])
    assert list(ledger.given_up) == [POISON] and "no result after 1 s" in ledger.given_up[POISON]
    assert sorted(ledger.results) == [22, 28]
    assert ledger.losses.count(Loss.OVERDUE) >= 3


def test_a_straggler_gets_a_duplicate_and_the_first_to_finish_counts(
    ledger: Ledger, tmp_path: Path
) -> None:
    pace = Pace(needed=3, shortest_straggler_s=0.5)
    start = time.monotonic()
    dispatch(ledger.crew("hangs once", tmp_path, pace=lambda: pace), [[n] for n in range(10, 16)])
    assert time.monotonic() - start < LONG_S / 2
    assert sorted(ledger.results) == [2 * item for item in range(10, 16)]
    assert attempts(tmp_path)[POISON] == 2 and ledger.n_duplicates == 1


def test_batches_are_cut_to_what_an_actor_can_hold(ledger: Ledger, tmp_path: Path) -> None:
    crew = ledger.crew("memory", tmp_path, capacity=lambda _: 2)
    dispatch(crew, balanced_batches(range(11), 6, 2))
    assert sorted(ledger.results) == [2 * item for item in range(11)]
    assert set(attempts(tmp_path).values()) == {1}


@pytest.mark.parametrize(
    ("trouble", "error", "message"),
    [
        ("base", BaseModelError, "no such base model"),
        ("fenced", FencedError, "took over"),
        ("disk", StoreError, "make room"),
    ],
)
def test_what_stops_every_actor_is_raised_as_it_is(
    ledger: Ledger, tmp_path: Path, trouble: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dispatch(ledger.crew(trouble, tmp_path, losses=1), [[1], [2]])
    assert not ledger.given_up and not ledger.results


@pytest.mark.parametrize(("trouble", "budget"), [("start", "errors"), ("always", "losses")])
def test_endless_failure_ends_with_the_reason(
    ledger: Ledger, tmp_path: Path, trouble: str, budget: str
) -> None:
    with pytest.raises(TrainingError, match="2 attempts failed one after another"):
        dispatch(ledger.crew(trouble, tmp_path, **{budget: 2}), balanced_batches(range(64), 16, 2))
    assert not ledger.given_up


def test_a_place_that_never_comes_is_an_error_and_not_a_wait(
    ledger: Ledger, tmp_path: Path
) -> None:
    crew = ledger.crew("none", tmp_path, cpus=64, start_timeout_s=1.5)
    with pytest.raises(TrainingError, match=r"no actor got ready in [12] s \(2 wait for a place"):
        dispatch(crew, [[1], [2], [3]])


def test_an_actor_that_dies_after_long_work_is_no_actor_that_never_came(
    ledger: Ledger, tmp_path: Path
) -> None:
    dispatch(ledger.crew("dies late", tmp_path, start_timeout_s=2.5), [[1, 2]])
    assert sorted(ledger.results) == [2, 4]


def test_actors_that_found_no_place_are_let_go_when_nothing_is_left_for_them(
    ledger: Ledger, tmp_path: Path
) -> None:
    # Eight are wanted, two have room: the others are pending until the work is done.
    dispatch(ledger.crew("none", tmp_path, size=8), [[n] for n in range(24)])
    assert sorted(ledger.results) == [2 * item for item in range(24)]
    assert ledger.n_hired >= 8 and ledger.n_ready < 8
    assert set(ledger.losses) == {Loss.SURPLUS}


def test_hundreds_of_tiny_items_are_each_done_once(ledger: Ledger, tmp_path: Path) -> None:
    dispatch(ledger.crew("none", tmp_path), [[n] for n in range(300)])
    assert sorted(ledger.results) == [2 * item for item in range(300)]
    assert set(attempts(tmp_path).values()) == {1}


def test_no_work_needs_no_actor() -> None:
    def refuse() -> Any:
        raise AssertionError("hired")

    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    dispatch(Crew[int](refuse, 2, nothing, nothing), [])
