"""The numbers of a fleet so far: adapters by status, actors, pace, time and losses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from lorastyle.distributed.watch import Loss


@dataclass
class Tally:
    """The numbers of a fleet so far. `clock` gives seconds."""

    total: int
    clock: Callable[[], float] = time.monotonic
    statuses: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    n_repeated: int = 0
    """Adapters whose training was begun again, or twice."""
    pending: set[str] = field(default_factory=set)
    live: dict[str, float] = field(default_factory=dict)
    """Actors that are ready, and since when."""
    _actor_s: float = 0.0
    _began: float | None = None

    @property
    def n_done(self) -> int:
        return sum(self.statuses.values())

    @property
    def n_unusable(self) -> int:
        """Failed, zero or not finite."""
        return self.n_done - self.statuses["ok"]

    @property
    def n_machines_lost(self) -> int:
        """Actors that died, or did not come back in time."""
        return self.losses[Loss.INFRASTRUCTURE] + self.losses[Loss.OVERDUE]

    def ready(self, worker: str) -> None:
        self.pending.discard(worker)
        self.live[worker] = self.clock()
        # Loading the base model, and waiting for machines, are no part of the pace.
        self._began = self.live[worker] if self._began is None else self._began

    def lost(self, worker: str, loss: Loss) -> None:
        self.pending.discard(worker)
        self._actor_s += self.clock() - self.live.pop(worker, self.clock())
        self.losses[loss] += 1

    def actor_hours(self) -> float:
        """Hours that actors were ready, all together."""
        now = self.clock()
        return (self._actor_s + sum(now - since for since in self.live.values())) / 3600

    def per_hour(self) -> float | None:
        """Adapters an hour since the first actor was ready; None before the first adapter."""
        elapsed_s = 0.0 if self._began is None else self.clock() - self._began
        return 3600 * self.n_done / elapsed_s if self.n_done and elapsed_s else None

    def left_s(self) -> float | None:
        """Time that the rest will take at this pace."""
        rate = self.per_hour()
        return 3600 * (self.total - self.n_done) / rate if rate else None
