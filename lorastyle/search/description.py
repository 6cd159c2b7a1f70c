"""What a LoRA file holds, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lorastyle.adapters.formats.opening import FileInMemory, Limits
from lorastyle.adapters.formats.read import MAX_RANK, read_adapter
from lorastyle.adapters.naming import OTHER_PARTS, block_of
from lorastyle.adapters.updates import Adapter, ModuleKey
from lorastyle.records import SUB_NETWORKS
from lorastyle.search.verdicts import EXACT_RANK

Energies = Mapping[ModuleKey, float]


def describe_file(path: Path | FileInMemory, limits: Limits | None = None) -> dict[str, Any]:
    """Plain values about a LoRA file. Raises AdapterFileError where it cannot be read."""
    name = path.name if isinstance(path, FileInMemory) else str(path)
    return describe(read_adapter(path, limits=limits, max_rank=EXACT_RANK), name)


def is_whole(adapter: Adapter) -> bool:
    """Whether a file that was read for a search is described by the same updates: none was
    truncated, none needed the run's base weights.
    """
    updates = adapter.updates.values()
    return all(one.rank < MAX_RANK and one.method != "dora" for one in updates)


def describe(adapter: Adapter, path: str) -> dict[str, Any]:
    """The same of an adapter that was read with `EXACT_RANK`; `path` is what it is called."""
    energies = {key: update.energy() for key, update in adapter.updates.items()}
    return {
        "kind": "adapter",
        "path": path,
        **adapter.facts,
        "d": adapter.n_parameters,
        "parts": _parts(adapter, energies),
        "blocks": _blocks(adapter, energies),
        "lost_energy": max((one.lost_energy for one in adapter.updates.values()), default=0.0),
    }


def _parts(adapter: Adapter, energies: Energies) -> dict[str, Any]:
    names = {key: update.part for key, update in adapter.updates.items()}
    return _summed(adapter, energies, names, (*SUB_NETWORKS, *OTHER_PARTS))


def _blocks(adapter: Adapter, energies: Energies) -> dict[str, Any]:
    names = {
        key: block_of(key.module) if key.network == "unet" else key.network
        for key in adapter.updates
    }
    return _summed(adapter, energies, names, sorted(set(names.values()), key=_depth))


def _depth(block: str) -> tuple[int, str]:
    """Blocks in the order in which the U-Net passes them."""
    order = ("down_blocks", "mid_block", "up_blocks")
    first = block.partition(".")[0]
    return (order.index(first) if first in order else len(order)), block


def _summed(
    adapter: Adapter, energies: Energies, names: Mapping[ModuleKey, str], order: Iterable[str]
) -> dict[str, Any]:
    groups: dict[str, list[ModuleKey]] = {name: [] for name in order}
    for key in adapter.updates:
        groups[names[key]].append(key)
    return {
        name: {
            "n_modules": len(keys),
            "d": sum(adapter.updates[key].n_parameters for key in keys),
            "norm": max(0.0, sum(energies[key] for key in keys)) ** 0.5,
        }
        for name, keys in groups.items()
        if keys
    }
