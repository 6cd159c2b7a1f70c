"""Adapters that change different modules: compared on those that both change.

The inner product of two updates is a sum over modules, to which a module that one adapter
leaves alone adds nothing. Norms must leave it out as well, or an adapter of attention
layers would look half as similar to everything as one of all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Energies:
    """Squared norms of the updates of n adapters, module by module.

    `values` is (n, n_modules); zero where an adapter does not change a module.
    """

    modules: tuple[str, ...]
    values: Matrix

    def __len__(self) -> int:
        return len(self.values)

    def within(self, names: Sequence[str]) -> Matrix:
        """Columns of these modules: (n, m)."""
        place = {name: column for column, name in enumerate(self.modules)}
        return self.values[:, [place[name] for name in names]]


def shared_cosine(products: Matrix, energies: Matrix, others: Matrix | None = None) -> Matrix:
    """Cosines on the modules that both adapters change.

    Shapes: products (n, m) are inner products over the modules of `energies` (n, n_modules)
    and `others` (m, n_modules), by default the same adapters. 0 where two have no module
    in common; of an adapter with itself 1.

    >>> products = np.array([[2.0, 1.0], [1.0, 1.0]])
    >>> shared_cosine(products, np.array([[1.0, 1.0], [1.0, 0.0]]))
    array([[1., 1.],
           [1., 1.]])
    """
    there = energies if others is None else others
    squares = (energies @ (there > 0).T) * ((energies > 0) @ there.T)
    norms = np.sqrt(squares)
    cosines = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    if others is None:
        np.fill_diagonal(cosines, np.where(energies.any(axis=1), 1.0, 0.0))
    return cosines


def coverage(energies: Matrix, others: Matrix) -> Matrix:
    """Share of each update's squared norm that lies on modules the other changes too.

    Of two the smaller: (n, m), 1 where both change the same modules.
    """
    ours = energies @ (others > 0).T / np.maximum(energies.sum(axis=1), 1e-300)[:, None]
    theirs = (energies > 0) @ others.T / np.maximum(others.sum(axis=1), 1e-300)[None, :]
    return np.asarray(np.minimum(ours, theirs))
