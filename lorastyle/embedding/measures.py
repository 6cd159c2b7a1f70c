"""Representations that compare updates: which sums over modules each needs, and what they give.

A measure's sums add up over modules, so a Gram matrix of any group of modules is a sum of
parts. What is made of the sums at the end is a similarity with a diagonal of ones.

`MEASURE@RANK`, as in `delta@4`, is a measure of the same updates cut to that rank.
"""

from __future__ import annotations

import re
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
from lorastyle.adapters.truncation import truncated
from lorastyle.embedding.coverage import shared_cosine
from lorastyle.errors import StageError

Factors = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


class Measure(Protocol):
    """How updates are compared."""

    @property
    def sums(self) -> tuple[str, ...]:
        """Names of the matrices that add up over modules; the first is the representation's."""
        ...

    def rank(self, own: int) -> int:
        """The rank of factors that are compared, of adapters of rank `own`."""
        ...

    def reduce(self, lora_A: Factors, lora_B: Factors) -> tuple[Factors, Factors]:
        """Factors of that rank, of one module of n adapters: (n, r, in) and (n, out, r)."""
        ...

    def prepare(self, lora_A: Factors, lora_B: Factors, scaling: float) -> Any:
        """One module of n adapters, reduced or not, as `products` takes it."""
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


class Whole:
    """Compares updates as they are."""

    def rank(self, own: int) -> int:
        return own

    def reduce(self, lora_A: Factors, lora_B: Factors) -> tuple[Factors, Factors]:
        return lora_A, lora_B


@dataclass(frozen=True)
class Delta(Whole):
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
class DeltaAligned(Whole):
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


@dataclass(frozen=True)
class Truncated:
    """Another measure, of the updates cut to a rank: the best approximation, module by module."""

    base: Measure
    most: int
    """The rank, where the adapters have more."""

    @property
    def sums(self) -> tuple[str, ...]:
        name, *parts = self.base.sums
        cut = at_rank(name, self.most)
        return (cut, *(cut + part.removeprefix(name) for part in parts))

    def rank(self, own: int) -> int:
        return min(own, self.most)

    def reduce(self, lora_A: Factors, lora_B: Factors) -> tuple[Factors, Factors]:
        return truncated(lora_A, lora_B, self.most)

    def prepare(self, lora_A: Factors, lora_B: Factors, scaling: float) -> Any:
        return self.base.prepare(*self.reduce(lora_A, lora_B), scaling)

    def products(self, here: Any, there: Any, memory_bytes: int) -> Matrix:
        return self.base.products(here, there, memory_bytes)

    def similarity(
        self, sums: Sequence[Matrix], energies: Matrix | None, others: Matrix | None = None
    ) -> Matrix:
        """As the base's. The energies are those of the updates as they were cut."""
        return self.base.similarity(sums, energies, others)


MEASURES: Mapping[str, Measure] = {"delta": Delta(), "delta-aligned": DeltaAligned()}
"""By representation, of updates as they are."""
FACTORS = "factors"
"""The representation that compares vectors, not updates."""


def measure_of(representation: str) -> Measure:
    """The measure of a representation of updates: `delta`, or `delta@4`.

    Raises StageError for any other name.
    """
    base, rank = base_representation(representation), truncated_rank(representation)
    if base not in MEASURES:
        raise StageError(
            f"there is no representation {representation!r} of updates; choose from "
            f"{', '.join(MEASURES)}, or one of them at a rank, as in delta@4"
        )
    return MEASURES[base] if rank is None else Truncated(MEASURES[base], rank)


def at_rank(representation: str, rank: int) -> str:
    """The name of a representation of the updates cut to a rank.

    >>> at_rank("delta", 4)
    'delta@4'
    """
    return f"{representation}@{rank}"


def base_representation(representation: str) -> str:
    """The representation without its rank.

    >>> base_representation("delta-aligned@4"), base_representation("factors")
    ('delta-aligned', 'factors')
    """
    return representation.partition("@")[0]


def truncated_rank(representation: str) -> int | None:
    """The rank that the updates are cut to, or None.

    Raises StageError where what follows the `@` is no rank.

    >>> truncated_rank("delta@4"), truncated_rank("delta")
    (4, None)
    """
    _, at, rank = representation.partition("@")
    if not at:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,5}", rank):
        raise StageError(
            f"{rank!r} in the representation {representation!r} is not a rank; write a whole "
            "number of at least 1, as in delta@4"
        )
    return int(rank)


def sum_names(representation: str) -> tuple[str, ...]:
    """The matrices that a representation is made of; of factors the one of their products."""
    return (FACTORS,) if representation == FACTORS else measure_of(representation).sums


def is_representation(name: str) -> bool:
    """False for a matrix that is only part of one."""
    return "+" not in name
