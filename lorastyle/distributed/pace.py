"""How long a batch should take, learnt from those that are done."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

REMEMBERED = 200


@dataclass
class Pace:
    """Tells stragglers, which get a duplicate, from calls that are overdue, which are ended."""

    deadline_s: float | None = None
    """Fixed limit of a batch. Default: `overdue_factor` times what is expected."""
    straggler_factor: float = 2.0
    overdue_factor: float = 10.0
    shortest_straggler_s: float = 5.0
    shortest_overdue_s: float = 120.0
    needed: int = 3
    """Batches done before anything is expected."""
    _done: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def record(self, n_items: int, wall_s: float) -> None:
        """A batch of `n_items` took this long."""
        self._done.append((n_items, wall_s))

    def expected_s(self, n_items: int) -> float | None:
        """Median time of batches done, longer for larger ones; None while too few are known.

        >>> pace = Pace(needed=1)
        >>> pace.record(4, 10.0)
        >>> pace.expected_s(8), pace.expected_s(1)
        (20.0, 10.0)
        """
        if len(self._done) < self.needed:
            return None
        # A small batch is not cheaper in proportion: a step costs what its overheads cost.
        return median(wall_s * max(1.0, n_items / n) for n, wall_s in self._done)

    def straggles(self, n_items: int, elapsed_s: float) -> bool:
        """True for a call that takes clearly longer than others."""
        expected_s = self.expected_s(n_items)
        if expected_s is None:
            return False
        return elapsed_s > max(self.straggler_factor * expected_s, self.shortest_straggler_s)

    def is_overdue(self, n_items: int, elapsed_s: float) -> bool:
        """True for a call that will not come back."""
        if self.deadline_s is not None:
            return elapsed_s > self.deadline_s
        expected_s = self.expected_s(n_items)
        if expected_s is None:
            return False
        return elapsed_s > max(self.overdue_factor * expected_s, self.shortest_overdue_s)
