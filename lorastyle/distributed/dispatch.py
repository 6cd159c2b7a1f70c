"""Give batches of work to disposable actors, and outlive the loss of any of them.

One batch is in flight per actor. An actor that fails is killed and replaced, its
batch is tried again; a batch that keeps failing is halved, until the item at
fault stands alone and is given up. Ray's own restarts and retries stay off: an
actor that restarts answers calls with errors meanwhile, which burns the retries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lorastyle.errors import LorastyleError, TrainingError

Item = TypeVar("Item")

ATTEMPTS = 3
"""How often a batch is tried before it is halved. Halves are tried once, single items twice."""


@dataclass(frozen=True)
class Crew(Generic[Item]):
    """What the dispatcher needs to know of the actors and of the work's owner."""

    hire: Callable[[], Any]
    """Make an actor with methods `ready()` and `work(items)`."""
    size: int
    """Actors at the same time, at most."""
    deliver: Callable[[Sequence[Item], Any], None]
    """Take the result of a batch."""
    give_up: Callable[[Item, str], None]
    """Record an item that failed by itself, with the reason."""
    on_ready: Callable[[], None] = lambda: None
    """Told of each actor that has got ready."""
    patience: int = 12
    """Failures without any success between them, after which the fault is not an item's."""


@dataclass(frozen=True)
class _Batch(Generic[Item]):
    items: tuple[Item, ...]
    failures: int = 0


def balanced_batches(items: Sequence[Item], size: int, n_workers: int) -> list[tuple[Item, ...]]:
    """Consecutive batches of nearly equal size, at most `size`, as many as keep all workers busy.

    Their number is a multiple of `n_workers`, so that all finish together.

    >>> [len(batch) for batch in balanced_batches(range(33), 16, 2)]
    [9, 8, 8, 8]
    """
    if not items:
        return []
    rounds = -(-len(items) // (size * n_workers))
    n_batches = min(len(items), rounds * n_workers)
    short, n_long = divmod(len(items), n_batches)
    sizes = [short + (index < n_long) for index in range(n_batches)]
    starts = [sum(sizes[:index]) for index in range(n_batches)]
    return [tuple(items[start : start + count]) for start, count in zip(starts, sizes, strict=True)]


def dispatch(crew: Crew[Item], batches: Sequence[Sequence[Item]]) -> None:
    """Have every batch done, or its items given up; leaves no actor behind.

    Raises the error itself where an actor cannot get ready because of the run
    (a base model that does not load), TrainingError where nothing ever succeeds.
    """
    dispatcher = _Dispatcher(crew, batches)
    try:
        dispatcher.run()
    finally:
        dispatcher.dismiss_all()


class _Dispatcher(Generic[Item]):
    """The loop's state: batches to do, and for each call in flight its actor and batch."""

    def __init__(self, crew: Crew[Item], batches: Sequence[Sequence[Item]]) -> None:
        self._crew = crew
        self._queue = deque(_Batch(tuple(batch)) for batch in batches)
        self._calls: dict[Any, tuple[Any, _Batch[Item] | None]] = {}
        self._failures_in_a_row = 0

    def run(self) -> None:
        import ray

        while self._queue or self._working():
            self._hire()
            done, _ = ray.wait(list(self._calls), num_returns=1)
            actor, batch = self._calls.pop(done[0])
            try:
                result = ray.get(done[0])
            except ray.exceptions.RayError as error:
                self._dismiss(actor)
                self._failed(batch, error)
            else:
                if batch is None:
                    self._crew.on_ready()
                else:
                    self._failures_in_a_row = 0
                    self._crew.deliver(batch.items, result)
                self._assign(actor)

    def _working(self) -> int:
        return sum(batch is not None for _, batch in self._calls.values())

    def _hire(self) -> None:
        """Actors not yet ready hold no batch, so a cluster that is still growing delays none."""
        wanted = min(self._crew.size, len(self._queue) + self._working())
        while len(self._calls) < wanted:
            actor = self._crew.hire()
            self._calls[actor.ready.remote()] = (actor, None)

    def _assign(self, actor: Any) -> None:
        if self._queue:
            batch = self._queue.popleft()
            self._calls[actor.work.remote(batch.items)] = (actor, batch)
        else:
            self._dismiss(actor)

    def _failed(self, batch: _Batch[Item] | None, error: Exception) -> None:
        reason = reason_of(error)
        self._failures_in_a_row += 1
        if batch is None:
            cause = getattr(error, "cause", None)
            if isinstance(cause, LorastyleError):
                raise cause from error
        else:
            self._put_back(batch, reason)
        if self._failures_in_a_row >= self._crew.patience:
            raise TrainingError(
                f"{self._failures_in_a_row} attempts failed one after another, the last with: "
                f"{reason}; mend the cause and run the same command again"
            ) from error

    def _put_back(self, batch: _Batch[Item], reason: str) -> None:
        if batch.failures + 1 < ATTEMPTS:
            self._queue.appendleft(_Batch(batch.items, batch.failures + 1))
        elif len(batch.items) > 1:
            middle = len(batch.items) // 2
            for half in (batch.items[middle:], batch.items[:middle]):
                tries = 1 if len(half) > 1 else 2
                self._queue.appendleft(_Batch(half, ATTEMPTS - tries))
        else:
            self._crew.give_up(batch.items[0], reason)

    def _dismiss(self, actor: Any) -> None:
        import ray

        ray.kill(actor)

    def dismiss_all(self) -> None:
        """Kill the actors of all calls in flight."""
        for actor, _ in self._calls.values():
            self._dismiss(actor)
        self._calls.clear()


def reason_of(error: BaseException) -> str:
    """One line: the cause's type and message, without Ray's traceback.

    >>> reason_of(ValueError("too   bad"))
    'ValueError: too bad'
    """
    cause = getattr(error, "cause", None) or error
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}"[:500]
