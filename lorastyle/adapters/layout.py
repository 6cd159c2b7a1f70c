"""`AdapterLayout`: where each LoRA factor lies in an adapter vector.

The order is written down here, not inherited from a library: modules by
sub-network in the order of `records.SUB_NETWORKS`, then by name; of each module
`lora_A` before `lora_B`, both row-major. So each sub-network is one contiguous
range of columns, and a Gram matrix per sub-network is one pass over the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lorastyle.errors import LayoutMismatchError
from lorastyle.records import SUB_NETWORKS, digest

LAYOUT_VERSION = 1

Vector = npt.NDArray[np.float32]
FactorKey = tuple[str, str]
"""A module's dotted name in the U-Net, and `A` or `B`."""


class TargetModule(NamedTuple):
    """A Linear layer that gets a LoRA branch."""

    name: str
    sub_network: str
    out_features: int
    in_features: int


@dataclass(frozen=True)
class LayoutEntry:
    """One factor: `lora_A` has shape (rank, in), `lora_B` (out, rank)."""

    module: str
    factor: str
    shape: tuple[int, int]
    offset: int
    sub_network: str

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def stop(self) -> int:
        return self.offset + self.size

    @property
    def key(self) -> FactorKey:
        return (self.module, self.factor)

    @property
    def name(self) -> str:
        """As state dicts call it: `MODULE.lora_A`."""
        return f"{self.module}.lora_{self.factor}"


@dataclass(frozen=True)
class AdapterLayout:
    """Ordered table of factors; part of every adapter vector's identity.

    Raises LayoutMismatchError when the entries are not in canonical order: a
    permuted vector keeps its norm and looks healthy.
    """

    rank: int
    entries: tuple[LayoutEntry, ...]

    def __post_init__(self) -> None:
        modules = [
            TargetModule(a.module, a.sub_network, b.shape[0], a.shape[1])
            for a, b in zip(self.entries[::2], self.entries[1::2], strict=False)
        ]
        if self.rank < 1 or not modules or self.entries != _canonical_entries(self.rank, modules):
            raise LayoutMismatchError(
                f"{len(self.entries)} factors at rank {self.rank} are not a canonical layout "
                f"(version {LAYOUT_VERSION}); make it with AdapterLayout.of_modules"
            )

    @classmethod
    def of_modules(cls, rank: int, modules: Iterable[TargetModule]) -> AdapterLayout:
        """The layout of a LoRA of this rank on these Linear layers, in any order.

        >>> layout = AdapterLayout.of_modules(4, [TargetModule("b.attn1", "self_attention", 8, 6)])
        >>> layout.size, [entry.shape for entry in layout.entries]
        (56, [(4, 6), (8, 4)])
        """
        return cls(rank, _canonical_entries(rank, modules))

    @property
    def size(self) -> int:
        """Length d of an adapter vector."""
        return self.entries[-1].stop

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """Module names in canonical order."""
        return tuple(entry.module for entry in self.entries[::2])

    @cached_property
    def targets(self) -> tuple[TargetModule, ...]:
        """The modules themselves, in canonical order, whatever the rank."""
        pairs = zip(self.entries[::2], self.entries[1::2], strict=True)
        return tuple(
            TargetModule(a.module, a.sub_network, b.shape[0], a.shape[1]) for a, b in pairs
        )

    def columns(self, sub_network: str = "full") -> list[slice]:
        """Column ranges of a sub-network: one, or none where the layout leaves it out."""
        if sub_network == "full":
            return [slice(0, self.size)]
        if sub_network not in SUB_NETWORKS:
            raise LayoutMismatchError(
                f"there is no sub-network {sub_network!r}; "
                f"choose one of: full, {', '.join(SUB_NETWORKS)}"
            )
        members = [entry for entry in self.entries if entry.sub_network == sub_network]
        return [slice(members[0].offset, members[-1].stop)] if members else []

    def sub_network_size(self, sub_network: str = "full") -> int:
        """Parameters of a sub-network."""
        return sum(part.stop - part.start for part in self.columns(sub_network))

    def hash(self) -> str:
        """SHA-256 of the table."""
        return digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "version": LAYOUT_VERSION,
            "rank": self.rank,
            "entries": [
                {
                    "module": entry.module,
                    "factor": entry.factor,
                    "shape": list(entry.shape),
                    "offset": entry.offset,
                    "sub_network": entry.sub_network,
                }
                for entry in self.entries
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AdapterLayout:
        """The inverse of `to_dict`."""
        if values.get("version") != LAYOUT_VERSION:
            raise LayoutMismatchError(
                f"the layout has version {values.get('version')!r}, this release reads "
                f"{LAYOUT_VERSION}; use the release it was written with"
            )
        entries = tuple(
            LayoutEntry(
                module=str(entry["module"]),
                factor=str(entry["factor"]),
                shape=(int(entry["shape"][0]), int(entry["shape"][1])),
                offset=int(entry["offset"]),
                sub_network=str(entry["sub_network"]),
            )
            for entry in values["entries"]
        )
        return cls(int(values["rank"]), entries)

    def flatten(
        self, factors: Mapping[FactorKey, npt.ArrayLike], name: str = "the adapter"
    ) -> Vector:
        """Factors as one vector (d,), float32. `name` stands in errors."""
        self._check_keys(factors, name)
        vector = np.empty(self.size, np.float32)
        for entry in self.entries:
            factor = np.asarray(factors[entry.key])
            if factor.shape != entry.shape:
                raise LayoutMismatchError(
                    f"factor {entry.name!r} of {name} has shape {factor.shape}, the layout's is "
                    f"{entry.shape} at rank {self.rank}; train it with that rank and base model"
                )
            vector[entry.offset : entry.stop] = factor.reshape(-1)
        return vector

    def unflatten(self, vector: Vector) -> dict[FactorKey, Vector]:
        """Factors as views of a vector (d,); leading axes (n, d) are kept: (n, r, in)."""
        if vector.shape[-1] != self.size:
            raise LayoutMismatchError(
                f"the vector has {vector.shape[-1]} parameters, the layout {self.size} at rank "
                f"{self.rank}; open it with the layout it was written with"
            )
        leading = vector.shape[:-1]
        return {
            entry.key: vector[..., entry.offset : entry.stop].reshape(*leading, *entry.shape)
            for entry in self.entries
        }

    def _check_keys(self, factors: Mapping[FactorKey, npt.ArrayLike], name: str) -> None:
        expected = {entry.key for entry in self.entries}
        if factors.keys() == expected:
            return
        problems = [
            f"first {word}: '{'.lora_'.join(min(keys))}'"
            for word, keys in (
                ("extra", factors.keys() - expected),
                ("missing", expected - factors.keys()),
            )
            if keys
        ]
        raise LayoutMismatchError(
            f"{name} has {len(factors)} factors, the layout {len(expected)} "
            f"({'; '.join(problems)}); train it with the same sub_network and base model, "
            "or choose a layout that holds them"
        )


def joined(ranges: Iterable[slice]) -> list[slice]:
    """Column ranges in rising order, neighbours made one.

    >>> joined([slice(0, 2), slice(2, 5), slice(7, 9)])
    [slice(0, 5, None), slice(7, 9, None)]
    """
    found: list[slice] = []
    for columns in ranges:
        if found and found[-1].stop == columns.start:
            found[-1] = slice(found[-1].start, columns.stop)
        else:
            found.append(columns)
    return found


def _canonical_entries(rank: int, modules: Iterable[TargetModule]) -> tuple[LayoutEntry, ...]:
    """Sorted by sub-network, then name: dict order follows model construction, which
    an upgrade may change.
    """
    entries: list[LayoutEntry] = []
    offset = 0
    for module in sorted(modules, key=_canonical_key):
        for factor, shape in (
            ("A", (rank, module.in_features)),
            ("B", (module.out_features, rank)),
        ):
            entry = LayoutEntry(module.name, factor, shape, offset, module.sub_network)
            entries.append(entry)
            offset = entry.stop
    return tuple(entries)


def _canonical_key(module: TargetModule) -> tuple[int, str]:
    if module.sub_network not in SUB_NETWORKS:
        raise LayoutMismatchError(
            f"module {module.name!r} has sub-network {module.sub_network!r}; "
            f"it must be one of: {', '.join(SUB_NETWORKS)}"
        )
    return (SUB_NETWORKS.index(module.sub_network), module.name)
