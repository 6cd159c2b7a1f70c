"""Exact products of two adapters, module by module: all that their weights say of each other.

Ranks, scalings and sets of modules differ freely. What the two do not share cannot be
compared, so every answer says how much that was. Formulas: docs/delta-kernel.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.naming import part_of
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.errors import LayoutMismatchError

Gram = npt.NDArray[np.float64]

RANK_CUT_OFF = 1e-10
"""Directions of a row space with less than this share of the largest one's energy are rounding."""


@dataclass(frozen=True)
class Products:
    """Two updates, or the same sums over several modules that both adapters have."""

    inner: float
    norm_a: float
    norm_b: float
    n_modules: int = 1

    @property
    def cosine(self) -> float:
        """In [-1, 1]; 0 where one of the updates is zero."""
        norms = self.norm_a * self.norm_b
        return min(1.0, max(-1.0, self.inner / norms)) if norms > 0 else 0.0

    @classmethod
    def total(cls, products: Iterable[Products]) -> Products:
        """Over several modules: inner products and squared norms add up."""
        each = list(products)
        return cls(
            sum(one.inner for one in each),
            float(np.sqrt(sum(one.norm_a**2 for one in each))),
            float(np.sqrt(sum(one.norm_b**2 for one in each))),
            sum(one.n_modules for one in each),
        )


@dataclass(frozen=True)
class ModuleProducts(Products):
    """One module of both, and what its factors tell beyond the update."""

    row_overlap: float = 0.0
    """`||Q_a' Q_b||^2 / sqrt(r_a r_b)` of the row spaces of lora_A: 1 where they are the same,
    about sqrt(r_a r_b) / in where they were drawn independently."""
    factor_cosine: float | None = None
    """Of the flattened lora_A. Near 1 for unrelated adapters only if they share the training
    seed; None where the ranks differ."""


@dataclass(frozen=True)
class PairProducts:
    """All that the weights of two adapters say about each other, in float64."""

    modules: Mapping[ModuleKey, ModuleProducts]
    """The shared ones."""
    parts: Mapping[str, Products]
    """The same summed over each part of the base model."""
    whole: Products
    only_a: tuple[ModuleKey, ...]
    only_b: tuple[ModuleKey, ...]
    energy_share_a: float
    """Of a's squared norm, what lies on shared modules; 0 for a zero adapter."""
    energy_share_b: float


def compare_pair(a: Adapter, b: Adapter) -> PairProducts:
    """Two adapters, module by module. Takes about 1 ms a module at rank 16.

    Raises LayoutMismatchError where a module has one name but two shapes: then the
    adapters are of different base models.
    """
    shared = [key for key in a.updates if key in b.updates]
    for key in shared:
        check_shapes(key, a.name, a.updates[key].shape, b.name, b.updates[key].shape)
    modules = {key: _compare_updates(a.updates[key], b.updates[key]) for key in shared}
    parts: dict[str, list[Products]] = {}
    for key, products in modules.items():
        parts.setdefault(part_of(*key), []).append(products)
    whole = Products.total(modules.values())
    only_a = tuple(key for key in a.updates if key not in b.updates)
    only_b = tuple(key for key in b.updates if key not in a.updates)
    return PairProducts(
        modules,
        {part: Products.total(members) for part, members in parts.items()},
        whole,
        only_a,
        only_b,
        _share(whole.norm_a**2, sum(a.updates[key].energy() for key in only_a)),
        _share(whole.norm_b**2, sum(b.updates[key].energy() for key in only_b)),
    )


def _compare_updates(a: ModuleUpdate, b: ModuleUpdate) -> ModuleProducts:
    A, B = a.lora_A.astype(np.float64), a.lora_B.astype(np.float64)
    A2, B2 = b.lora_A.astype(np.float64), b.lora_B.astype(np.float64)
    gram, gram2, across = A @ A.T, A2 @ A2.T, A @ A2.T
    return ModuleProducts(
        inner=float(a.scaling * b.scaling * (across * (B.T @ B2)).sum()),
        norm_a=_norm(a.scaling, gram, B.T @ B),
        norm_b=_norm(b.scaling, gram2, B2.T @ B2),
        row_overlap=_row_overlap(gram, gram2, across),
        factor_cosine=_factor_cosine(gram, gram2, across) if a.rank == b.rank else None,
    )


def _norm(scaling: float, down: Gram, up: Gram) -> float:
    # The sum may round to less than zero where the factors cancel.
    return float(abs(scaling) * np.sqrt(max(0.0, float((down * up).sum()))))


def _row_overlap(gram: Gram, gram2: Gram, across: Gram) -> float:
    basis, basis2 = _whitening(gram), _whitening(gram2)
    if not basis.size or not basis2.size:
        return 0.0
    rank = np.sqrt(basis.shape[1] * basis2.shape[1])
    return float(((basis.T @ across @ basis2) ** 2).sum() / rank)


def _whitening(gram: Gram) -> Gram:
    """W (r, r') with `W' A` orthonormal rows that span those of A, `gram = A A'`.

    Zero rows and rows that depend on others span nothing: r' is the true rank.
    """
    energies, directions = np.linalg.eigh(gram)
    kept = energies > RANK_CUT_OFF * max(float(energies[-1]), 0.0)
    return np.asarray(directions[:, kept] / np.sqrt(energies[kept]))


def _factor_cosine(gram: Gram, gram2: Gram, across: Gram) -> float:
    norms = np.sqrt(np.trace(gram) * np.trace(gram2))
    return float(np.trace(across) / norms) if norms > 0 else 0.0


def _share(shared: float, rest: float) -> float:
    return shared / (shared + rest) if shared > 0 else 0.0


def check_shapes(
    key: ModuleKey, name: str, shape: tuple[int, int], other: str, other_shape: tuple[int, int]
) -> None:
    """Raise LayoutMismatchError where a module has one name but two shapes."""
    if shape != other_shape:
        raise LayoutMismatchError(
            f"module '{key}' has an update of shape {shape} in {name!r} and {other_shape} in "
            f"{other!r}; compare adapters of one base model"
        )
