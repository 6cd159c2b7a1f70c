"""Sums of float32 products in float64, on the CPU or on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Matrix = npt.NDArray[np.float32]
Gram = npt.NDArray[np.float64]


class ProductSum(Protocol):
    """Adds up `others @ vectors.T` over column panels."""

    def add(self, vectors: Matrix, others: Matrix | None = None) -> None:
        """Add the products of one panel: vectors (n, w); others (m, w), default the vectors."""

    def result(self) -> Gram:
        """The sum: (m, n) float64."""


class NumpySum:
    """On the CPU."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._total: Gram = np.zeros(shape)

    def add(self, vectors: Matrix, others: Matrix | None = None) -> None:
        # One operand twice: NumPy then calls syrk, half the work of a general product.
        self._total += (vectors if others is None else others) @ vectors.T

    def result(self) -> Gram:
        return self._total


class TorchSum:
    """On a torch device; only panels go there and only the sum comes back."""

    def __init__(self, shape: tuple[int, int], device: str) -> None:
        import torch

        self._torch = torch
        self._device = device
        self._total: torch.Tensor = torch.zeros(shape, dtype=torch.float64, device=device)

    def add(self, vectors: Matrix, others: Matrix | None = None) -> None:
        right = self._moved(vectors)
        left = right if others is None else self._moved(others)
        self._total += left @ right.T

    def result(self) -> Gram:
        return np.asarray(self._total.cpu().numpy())

    def _moved(self, panel: Matrix) -> torch.Tensor:
        moved = self._torch.from_numpy(np.ascontiguousarray(panel)).to(self._device)
        # Where somebody has turned TF32 on, float32 products keep 10 bits; trailing
        # components need all 24.
        return moved.double() if self._torch.backends.cuda.matmul.allow_tf32 else moved


def product_sum(shape: tuple[int, int]) -> ProductSum:
    """An empty sum where this process computes best: its GPU, if it sees one."""
    device = accelerator()
    return NumpySum(shape) if device is None else TorchSum(shape, device)


def accelerator() -> str | None:
    """`cuda` where this process may use a GPU, else None.

    torch takes seconds to import, so it is asked only where there is a driver.
    """
    if not Path("/dev/nvidiactl").exists():
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else None
