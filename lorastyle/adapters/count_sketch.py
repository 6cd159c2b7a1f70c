"""The TensorSketches of several modules in one go: two count sketches, and their convolution.

Formulas: `sketch`. One product with a sparse matrix of all modules' buckets, one Fourier
transform for all modules of one size: module by module, most of the time would be calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, rfft
from scipy.sparse import csr_matrix

from lorastyle.adapters.updates import ModuleKey

Matrix = npt.NDArray[np.float32]

VERSION = 1
"""Of the hash functions: sketches of two versions, seeds or plans have nothing in common."""


class SketchedModule(NamedTuple):
    """A module of a plan."""

    key: ModuleKey
    shape: tuple[int, int]
    """Of its update: (out, in)."""
    size: int
    """Numbers of its sketch."""


@dataclass(frozen=True, eq=False)
class CountSketches:
    """Of modules in rising order of size, their two count sketches as sparse matrices with one
    entry a column, in blocks one below the other.
    """

    modules: tuple[SketchedModule, ...]
    of_rows: Any
    """(sum of sizes, sum of in): of the rows of lora_A."""
    of_columns: Any
    """(sum of sizes, sum of out): of the columns of lora_B."""

    @classmethod
    def of(cls, modules: Sequence[SketchedModule], seed: int) -> CountSketches:
        ordered = tuple(sorted(modules, key=lambda module: module.size))
        drawn = [_drawn(module, seed) for module in ordered]
        sizes = [module.size for module in ordered]
        return cls(
            ordered,
            _blocks([of_in for _, of_in in drawn], sizes),
            _blocks([of_out for of_out, _ in drawn], sizes),
        )

    def convolved(self, rows: Matrix, columns: Matrix, rank: int) -> Matrix:
        """Rows of lora_A (sum of in, n rank) and columns of lora_B (sum of out, n rank), both one
        module below the other, n adapters side by side: their sketches (n, sum of sizes).
        """
        down, up = self.of_rows @ rows, self.of_columns @ columns
        values = np.empty((down.shape[1] // rank, len(down)), np.float32)
        start = 0
        for size, group in groupby(self.modules, key=lambda module: module.size):
            stop = start + size * len(list(group))
            values[:, start:stop] = _convolved(down[start:stop], up[start:stop], size, rank)
            start = stop
        return values


def _convolved(down: Matrix, up: Matrix, size: int, rank: int) -> Matrix:
    """Of modules of one size: (modules size, n rank) twice to (n, modules size)."""
    spectrum = rfft(down.reshape(-1, size, down.shape[1]), axis=1)
    spectrum *= rfft(up.reshape(-1, size, up.shape[1]), axis=1)
    n_modules, n_frequencies, _ = spectrum.shape
    summed = spectrum.reshape(n_modules, n_frequencies, -1, rank).sum(axis=3)
    values = irfft(summed, n=size, axis=1)
    return np.asarray(values.transpose(2, 0, 1).reshape(values.shape[2], -1), np.float32)


def _drawn(
    module: SketchedModule, seed: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Random numbers of the update's rows (out,) and of its columns (in,)."""
    n_out, n_in = module.shape
    # Bytes of a hash, not a library's generator: those may change with its release.
    key = f"sketch {VERSION}:{seed}:{module.key}:{n_out}x{n_in}:{module.size}"
    drawn = np.frombuffer(hashlib.shake_256(key.encode()).digest(4 * (n_out + n_in)), "<u4")
    return drawn[:n_out], drawn[n_out:]


def _blocks(drawn: Sequence[npt.NDArray[np.uint32]], sizes: Sequence[int]) -> Any:
    """(sum of sizes, sum of widths): of each number the highest bit is a sign, the rest a bucket
    of its block.
    """
    starts = np.cumsum([0, *sizes])
    buckets = [
        (numbers & 0x7FFFFFFF) % size + start
        for numbers, size, start in zip(drawn, sizes, starts[:-1], strict=True)
    ]
    signs = np.where(np.concatenate(drawn) >> 31, np.float32(-1), np.float32(1))
    places = np.concatenate(buckets), np.arange(len(signs))
    return csr_matrix((signs, places), shape=(int(starts[-1]), len(signs)))
