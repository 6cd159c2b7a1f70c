"""What is asked of generation, and what comes back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BATCH_SIZE = 16
"""Images at once where the caller does not say; the U-Net sees twice as many samples."""

Images = npt.NDArray[np.uint8]
"""Of one adapter: (m, H, W, 3)."""


class WantedImage(NamedTuple):
    """An image to be made of an adapter."""

    number: int
    """With the seed it keys the initial noise."""
    prompt: str
