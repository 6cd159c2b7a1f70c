"""`Spent`: what a task of a pass read, and the time it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Spent:
    """Adds up over the blocks of one task."""

    bytes: int = 0
    read_s: float = 0.0
    product_s: float = 0.0

    def read(self, n_bytes: int, wall_s: float) -> None:
        """Bytes of weights were read in this time."""
        self.bytes += n_bytes
        self.read_s += wall_s

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Counts the time of the block as products."""
        begun = time.monotonic()
        yield
        self.product_s += time.monotonic() - begun
