"""`Adapter`: what any LoRA file comes down to, one update `dW` for each module it changes.

Whatever the file's format, every module's update is held as two low-rank factors,
`dW = scaling * lora_B @ lora_A`. Rank, alpha and format differ freely from file to
file and from module to module; nothing that is compared depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.naming import part_of
from lorastyle.errors import LayoutMismatchError

Factor = npt.NDArray[np.float32]


class ModuleKey(NamedTuple):
    """A module of one of the base model's networks."""

    network: str
    """`unet`, `text_encoder` or `text_encoder_2`."""
    module: str
    """Dotted, as diffusers (for text encoders: transformers) calls it."""

    def __str__(self) -> str:
        return f"{self.network}.{self.module}"


@dataclass(frozen=True, eq=False)
class ModuleUpdate:
    """The update of one module, `dW = scaling * lora_B @ lora_A`.

    Shapes: lora_A (r, in), lora_B (out, r), both float32. Of a convolution `in` is
    channels x height x width of the kernel, flattened. `scaling` is alpha / rank.
    Raises LayoutMismatchError where the factors do not belong together.
    """

    key: ModuleKey
    lora_A: Factor
    lora_B: Factor
    scaling: float = 1.0
    method: str = "lora"
    """How the file parametrises it: `lora`, `loha`, `lokr`, `full` or `dora`."""
    kernel: tuple[int, ...] = ()
    """Height and width of a convolution's kernel; () for a Linear layer."""
    lost_energy: float = 0.0
    """Share of the squared norm that was cut off to make it low-rank; 0 where exact."""

    def __post_init__(self) -> None:
        a, b = self.lora_A.shape, self.lora_B.shape
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
            raise LayoutMismatchError(
                f"module '{self.key}' has lora_A {a} and lora_B {b}, which do not belong "
                "together; (r, in) and (out, r) do"
            )

    @property
    def rank(self) -> int:
        return len(self.lora_A)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the update: (out, in)."""
        return self.lora_B.shape[0], self.lora_A.shape[1]

    @property
    def part(self) -> str:
        """A sub-network of the paper, or what else it is (`naming.part_of`)."""
        return part_of(self.key.network, self.key.module)

    @property
    def n_parameters(self) -> int:
        """Numbers in the two factors."""
        return self.lora_A.size + self.lora_B.size

    def energy(self) -> float:
        """Squared Frobenius norm of the update, in float64; `dW` is not formed."""
        A, B = self.lora_A.astype(np.float64), self.lora_B.astype(np.float64)
        return float(self.scaling**2 * ((A @ A.T) * (B.T @ B)).sum())

    def delta(self) -> npt.NDArray[np.float64]:
        """The update itself (out, in), in float64. For small modules and for tests."""
        return self.scaling * (self.lora_B.astype(np.float64) @ self.lora_A.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Adapter:
    """The updates of one adapter, and what its file says of itself."""

    name: str
    updates: Mapping[ModuleKey, ModuleUpdate]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values; `formats.read.read_adapter` documents the keys."""

    @classmethod
    def of(
        cls, name: str, updates: Iterable[ModuleUpdate], facts: Mapping[str, Any] | None = None
    ) -> Adapter:
        """From updates in any order; they are kept sorted by network and module name."""
        ordered = sorted(updates, key=lambda update: update.key)
        keyed = {update.key: update for update in ordered}
        if len(keyed) != len(ordered):
            raise LayoutMismatchError(
                f"{name!r} updates {len(ordered) - len(keyed)} modules more than once; "
                "merge its parts into one file first"
            )
        return cls(name, keyed, dict(facts or {}))

    def __len__(self) -> int:
        return len(self.updates)

    @property
    def n_parameters(self) -> int:
        """Numbers in all factors."""
        return sum(update.n_parameters for update in self.updates.values())

    def only(self, parts: Iterable[str]) -> Adapter:
        """The same adapter with the modules of these parts alone."""
        wanted = set(parts)
        kept = {key: update for key, update in self.updates.items() if update.part in wanted}
        return Adapter(self.name, kept, self.facts)
