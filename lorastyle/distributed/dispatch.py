"""Give batches of work to disposable actors, and outlive the loss of any of them.

One batch is in flight per actor, and an actor gets one only when it is ready: what
is pending delays nothing, and asks the autoscaler for machines. An actor that
fails is killed and replaced; one that has nothing left to do is killed too, so
that its node can go. Ray's own restarts and retries stay off: an actor that
restarts answers calls with errors meanwhile, which burns the retries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from lorastyle.distributed.batches import Backlog, Batch
from lorastyle.distributed.faults import Fault, Patience, fault_of
from lorastyle.distributed.pace import Pace
from lorastyle.distributed.watch import Loss, Watch
from lorastyle.errors import LorastyleError, StoreError, TrainingError

Item = TypeVar("Item")

TICK_S = 1.0


@dataclass(frozen=True)
class Crew(Generic[Item]):
    """What the dispatcher needs to know of the actors and of the work's owner."""

    hire: Callable[[], Any]
    """Make an actor with methods `ready() -> facts` and `work(items) -> result`."""
    size: int
    """Actors at the same time, at most."""
    deliver: Callable[[Sequence[Item], Any], None]
    """Take the result of a batch; called once for each item that is done."""
    give_up: Callable[[Item, str], None]
    """Record an item that failed by itself, with the reason."""
    watch: Watch[Item] = field(default_factory=Watch)
    errors: int = 12
    """Errors of the work without any success between them, after which no item is at fault."""
    losses: int = 30
    """The same for events in which machines were lost."""
    start_timeout_s: float = 1800.0
    """How long to wait for any actor at all to get a place."""
    pace: Callable[[], Pace] = Pace
    capacity: Callable[[Any], int | None] = lambda _: None
    """The most items an actor can take at once, from its last answer; None for any number."""


def dispatch(crew: Crew[Item], batches: Sequence[Sequence[Item]]) -> None:
    """Have every batch done, or its items given up; leaves no actor behind.

    Raises the error itself where an actor cannot get ready because of the run
    (a base model that does not load) or another attempt took the run over,
    TrainingError where nothing ever succeeds or no actor gets a place.
    """
    dispatcher = _Dispatcher(crew, batches)
    try:
        dispatcher.run()
    finally:
        dispatcher.dismiss_all()


@dataclass
class _Call(Generic[Item]):
    """A call in flight: getting ready while it has no batch, working otherwise."""

    worker: str
    actor: Any
    since: float
    capacity: int | None = None
    batch: Batch[Item] | None = None

    def elapsed_s(self) -> float:
        return time.monotonic() - self.since


class _Dispatcher(Generic[Item]):
    """The loop's state: batches to do, and the calls in flight."""

    def __init__(self, crew: Crew[Item], batches: Sequence[Sequence[Item]]) -> None:
        self._crew, self._watch = crew, crew.watch
        self._backlog = Backlog(batches)
        self._calls: dict[Any, _Call[Item]] = {}
        self._patience = Patience(time.monotonic, errors=crew.errors, losses=crew.losses)
        self._pace = crew.pace()
        self._n_hired = 0
        self._last_tick = time.monotonic()
        self._last_sign = self._last_tick
        """When last an actor worked, or got ready."""

    def run(self) -> None:
        while self._backlog or self._working():
            self._let_surplus_go()
            self._hire()
            self._end_overdue()
            for call, result in self._finished():
                self._settle(call, result)
            self._look_around()

    def _finished(self) -> list[tuple[_Call[Item], Any]]:
        """Calls that came back, with what `ray.get` gives: a result, or the error itself."""
        import ray

        if not self._calls:  # all machines were lost: nothing to wait for but the pause
            time.sleep(TICK_S / 4)
            return []
        done, _ = ray.wait(list(self._calls), num_returns=1, timeout=TICK_S)
        return [(self._calls.pop(reference), _outcome(reference)) for reference in done]

    def _settle(self, call: _Call[Item], result: Any) -> None:
        if isinstance(result, Exception):
            self._failed(call, fault_of(result))
            return
        self._last_sign = time.monotonic()
        call.capacity = self._crew.capacity(result)
        if call.batch is None:
            self._watch.ready(call.worker, result if isinstance(result, dict) else {})
        else:
            self._delivered(call, call.batch, result)
        self._assign(call)

    def _delivered(self, call: _Call[Item], batch: Batch[Item], result: Any) -> None:
        self._patience.succeeded()
        self._pace.record(len(batch.items), call.elapsed_s())
        self._watch.delivered(call.worker, batch.items, result)
        self._crew.deliver(batch.items, result)
        for reference, other in list(self._calls.items()):
            if other.batch is batch:
                del self._calls[reference]
                self._dismiss(other, Loss.SURPLUS, "another actor was faster")

    def _assign(self, call: _Call[Item]) -> None:
        """Work for an actor that has none; without any it is let go."""
        if self._backlog:
            self._give(call, self._backlog.take(call.capacity), duplicate=False)
        elif batch := self._straggler(call.capacity):
            self._give(call, batch, duplicate=True)
        else:
            self._dismiss(call, Loss.SURPLUS, "nothing left to do")

    def _give(self, call: _Call[Item], batch: Batch[Item], *, duplicate: bool) -> None:
        self._watch.assigned(call.worker, batch.items, duplicate=duplicate)
        call.batch, call.since = batch, time.monotonic()
        self._calls[call.actor.work.remote(batch.items)] = call

    def _straggler(self, capacity: int | None = None) -> Batch[Item] | None:
        """A batch that one actor alone has worked on for far too long."""
        copies: dict[int, list[_Call[Item]]] = {}
        for call in self._calls.values():
            copies.setdefault(id(call.batch), []).append(call)
        for call, *others in copies.values():
            if call.batch is None or others:
                continue
            n = len(call.batch.items)
            if (capacity is None or n <= capacity) and self._pace.straggles(n, call.elapsed_s()):
                return call.batch
        return None

    def _hire(self) -> None:
        """As many actors as there is work for; after losses not at once."""
        if time.monotonic() < self._patience.hire_after:
            return
        while len(self._calls) < min(self._crew.size, self._wanted()):
            self._n_hired += 1
            call = _Call[Item](f"actor-{self._n_hired}", self._crew.hire(), time.monotonic())
            self._calls[call.actor.ready.remote()] = call
            self._watch.hired(call.worker)

    def _wanted(self) -> int:
        duplicate = not self._backlog and self._straggler() is not None
        return len(self._backlog) + self._working() + duplicate

    def _let_surplus_go(self) -> None:
        """Pending actors that would find nothing to do ask for machines that nobody needs."""
        pending = [item for item in self._calls.items() if item[1].batch is None]
        n_needed = self._wanted() - self._working()
        for reference, call in pending[n_needed:]:
            del self._calls[reference]
            self._dismiss(call, Loss.SURPLUS, "nothing left to do")

    def _end_overdue(self) -> None:
        for reference, call in list(self._calls.items()):
            if call.batch is None or not self._pace.is_overdue(
                len(call.batch.items), call.elapsed_s()
            ):
                continue
            del self._calls[reference]
            reason = f"no result after {call.elapsed_s():.0f} s"
            self._failed(call, Fault(Loss.OVERDUE, reason, TimeoutError(reason)))

    def _failed(self, call: _Call[Item], fault: Fault) -> None:
        """Do again what an actor had, or give it up; go on with the actor if that is possible."""
        batch, call.batch = call.batch, None
        keep = batch is not None and not fault.spoils_the_actor
        if not keep:
            self._dismiss(call, fault.loss, fault.reason)
        if fault.ends_the_run or (batch is None and _is_the_runs(fault.cause)):
            raise fault.cause
        if batch is not None and not self._has_another(batch):
            self._again(batch, fault)
        self._patience.failed(fault)
        if keep:
            self._watch.failed(call.worker, fault.reason)
            self._assign(call)

    def _again(self, batch: Batch[Item], fault: Fault) -> None:
        item = self._backlog.put_back(batch, fault.loss)
        if item is not None:
            self._watch.gave_up(item, fault.reason)
            self._crew.give_up(item, fault.reason)

    def _has_another(self, batch: Batch[Item]) -> bool:
        return any(call.batch is batch for call in self._calls.values())

    def _working(self) -> int:
        """Batches being worked on, each counted once for every actor that does."""
        return sum(call.batch is not None for call in self._calls.values())

    def _look_around(self) -> None:
        now = time.monotonic()
        if now - self._last_tick < TICK_S:
            return
        self._last_tick = now
        self._watch.tick()
        if self._working():
            self._last_sign = now
        waited_s = now - self._last_sign
        if waited_s > self._crew.start_timeout_s:
            raise TrainingError(
                f"no actor got ready in {waited_s:.0f} s ({len(self._calls)} wait for a place); "
                "check that the cluster can offer what one asks for, and its autoscaler's log"
            )

    def _dismiss(self, call: _Call[Item], loss: Loss, reason: str) -> None:
        import ray

        ray.kill(call.actor)
        self._watch.lost(call.worker, loss, reason)

    def dismiss_all(self) -> None:
        """Kill the actors of all calls in flight."""
        for call in self._calls.values():
            self._dismiss(call, Loss.SURPLUS, "the fleet is dissolved")
        self._calls.clear()


def _outcome(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return error


def _is_the_runs(cause: BaseException) -> bool:
    """True where no actor will ever get ready, whatever machine it is on."""
    return isinstance(cause, LorastyleError) and not isinstance(cause, StoreError)
