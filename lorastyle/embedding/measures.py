"""Representations that compare updates: which sums over modules each needs, and what they give.

A measure's sums add up over modules, so a Gram matrix of any group of modules is a sum of
parts. What is made of the sums at the end is a similarity with a diagonal of ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.alignment import (
    AlignedStack,
    AlignedSums,
    aligned_similarity,
    stack_sums,
)
from lorastyle.adapters.kernel import FactorStack, cosine_of, delta_gram
from lorastyle.embedding.coverage import shared_cosine

Factors = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


class Measure(Protocol):
    """How updates are compared."""

    @property
    def sums(self) -> tuple[str, ...]:
        """Names of the matrices that add up over modules; the first is the representation's."""
        ...

    def prepare(self, lora_A: Factors, lora_B: Factors, scaling: float) -> Any:
        """One module of n adapters, (n, r, in) and (n, out, r), as `products` takes it."""
        ...

    def products(self, here: Any, there: Any, memory_bytes: int) -> Matrix:
        """(n_sums, n, m); of the adapters with themselves where `there` is None."""
        ...

    def similarity(
        self, sums: Sequence[Matrix], energies: Matrix | None, others: Matrix | None = None
    ) -> Matrix:
        """(n, m) from the sums over all modules.

        `energies` (n, n_modules) and `others` (m, n_modules; None: the same adapters) are
        squared norms; None where all adapters change the same modules.
        """
        ...


@dataclass(frozen=True)
class Delta:
    """The cosine of the updates, on the modules that both adapters change."""

    sums: tuple[str, ...] = ("delta",)

    def prepare(self, lora_A: Factors, lora_B: Factors, scaling: float) -> Any:
        return lora_A, lora_B, scaling

    def products(self, here: Any, there: Any, memory_bytes: int) -> Matrix:
        lora_A, lora_B, scaling = here
        other_A, other_B, other_scaling = (None, None, scaling) if there is None else there
        gram = delta_gram(
            lora_A,
            lora_B,
            other_A,
            other_B,
            scaling=scaling,
            other_scaling=other_scaling,
            memory_bytes=memory_bytes,
        )
        return gram[None]

    def similarity(
        self, sums: Sequence[Matrix], energies: Matrix | None, others: Matrix | None = None
    ) -> Matrix:
        if energies is None:
            return cosine_of(sums[0])
        return shared_cosine(sums[0], energies, others)


@dataclass(frozen=True)
class DeltaAligned:
    """Cosines against what the row spaces allow (`adapters.alignment`)."""

    sums: tuple[str, ...] = ("delta-aligned", "delta-aligned+attainable")

    def prepare(self, lora_A: Factors, lora_B: Factors, scaling: float) -> Any:
        return AlignedStack.of(FactorStack.of_arrays(lora_A, lora_B), scaling)

    def products(self, here: Any, there: Any, memory_bytes: int) -> Matrix:
        return np.stack(stack_sums(here, there, memory_bytes=memory_bytes))

    def similarity(
        self, sums: Sequence[Matrix], energies: Matrix | None, others: Matrix | None = None
    ) -> Matrix:
        return aligned_similarity(AlignedSums(*sums))


MEASURES: Mapping[str, Measure] = {"delta": Delta(), "delta-aligned": DeltaAligned()}
"""By representation."""


def sum_names(representation: str) -> tuple[str, ...]:
    """The matrices that a representation is made of; of factors the one of their products."""
    return MEASURES[representation].sums if representation in MEASURES else (representation,)


def is_representation(name: str) -> bool:
    """False for a matrix that is only part of one."""
    return "+" not in name
