"""Batches of work: cut, handed out, and tried again without losing an item or one good batch.

A batch that fails by its own error is tried a few times, then halved, until the
item at fault stands alone and is given up. A batch whose actors die is tried far
longer, for spot machines go all the time; but one that kills every actor that
touches it is halved and given up in the end as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from lorastyle.distributed.watch import Loss

Item = TypeVar("Item")

ATTEMPTS = 3
"""How often a batch may raise before it is halved. Halves may once, single items twice."""
LOSSES = 8
"""How many actors a batch may lose before it is halved. Halves may lose two more."""


@dataclass(frozen=True)
class Batch(Generic[Item]):
    """Items that are done together, and how often that failed."""

    items: tuple[Item, ...]
    errors: int = 0
    losses: int = 0

    def halves(self) -> list[Batch[Item]]:
        """Two batches with little left to spend."""
        middle = len(self.items) // 2
        return [self._part(self.items[:middle]), self._part(self.items[middle:])]

    def _part(self, items: tuple[Item, ...]) -> Batch[Item]:
        tries = 1 if len(items) > 1 else 2
        return Batch(items, ATTEMPTS - tries if self.errors else 0, max(0, LOSSES - 2))


class Backlog(Generic[Item]):
    """Batches still to be handed out, in order; what failed comes first again."""

    def __init__(self, batches: Iterable[Sequence[Item]]) -> None:
        self._queue = deque(Batch(tuple(batch)) for batch in batches if batch)

    def __len__(self) -> int:
        return len(self._queue)

    def take(self, capacity: int | None = None) -> Batch[Item]:
        """The next batch; cut to `capacity` items where an actor cannot hold it, the rest stays."""
        batch = self._queue.popleft()
        if capacity is None or len(batch.items) <= capacity:
            return batch
        self._queue.appendleft(replace(batch, items=batch.items[capacity:]))
        return replace(batch, items=batch.items[:capacity])

    def put_back(self, batch: Batch[Item], loss: Loss) -> Item | None:
        """After a failure: try again, whole or in halves. Returns an item to be given up."""
        # A call that never returns may be the batch's fault: it is not waited for eight times.
        at_fault = loss is not Loss.INFRASTRUCTURE
        errors, losses = batch.errors + at_fault, batch.losses + (not at_fault)
        if errors < ATTEMPTS and losses < LOSSES:
            self._queue.appendleft(replace(batch, errors=errors, losses=losses))
        elif len(batch.items) > 1:
            self._queue.extendleft(reversed(batch.halves()))
        else:
            return batch.items[0]
        return None


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
