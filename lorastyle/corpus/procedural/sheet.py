"""A flat drawing in progress, before any brush touches it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


class Sheet:
    """A flat drawing in progress: colours (n, n, 3) and region labels (n, n)."""

    def __init__(self, n: int) -> None:
        axis = (np.arange(n, dtype=np.float32) + 0.5) / n
        self.x = np.broadcast_to(axis[None, :], (n, n))
        self.y = np.broadcast_to(axis[:, None], (n, n))
        self.colours = np.zeros((n, n, 3), np.float32)
        self.labels = np.zeros((n, n), np.int16)
        self._next_label = 1

    def fill(self, mask: Any, colour: Any) -> None:
        """Paint a region over what lies there and give it a label of its own."""
        self.colours[mask] = np.asarray(colour, np.float32)
        self.labels[mask] = self._next_label
        self._next_label += 1
