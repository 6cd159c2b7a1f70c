"""What `inspect` says of a LoRA file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.report.words import SUB_NETWORK_NAMES, plain, size

if TYPE_CHECKING:
    from lorastyle.adapters.updates import Adapter, ModuleKey

    Energies = Mapping[ModuleKey, float]

FAMILY_NAMES = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "other": "another base model",
}
N_METADATA = 12
"""Entries of the file's own metadata that the terminal shows; --json has all."""


def describe_file(path: Path) -> dict[str, Any]:
    """Plain values about a LoRA file. Raises AdapterFileError where it cannot be read."""
    from lorastyle.adapters.formats.read import read_adapter
    from lorastyle.search.verdicts import EXACT_RANK

    adapter = read_adapter(path, max_rank=EXACT_RANK)
    energies = {key: update.energy() for key, update in adapter.updates.items()}
    return {
        "kind": "adapter",
        "path": str(path),
        **adapter.facts,
        "d": adapter.n_parameters,
        "parts": _parts(adapter, energies),
        "blocks": _blocks(adapter, energies),
        "lost_energy": max((one.lost_energy for one in adapter.updates.values()), default=0.0),
    }


def file_text(document: Mapping[str, Any]) -> str:
    """The same for people."""
    family = FAMILY_NAMES.get(document["family"], document["family"])
    lines = [
        f"{document['path']}: {document['format']}, {family}",
        "",
        *(f"{name + ':':<12} {value}" for name, value in _facts(document).items()),
        "",
        click.style(f"{'':<22}{'modules':>8}{'numbers':>13}{'norm of ΔW':>13}", bold=True),
    ]
    for name, part in document["parts"].items():
        lines.append(_row(SUB_NETWORK_NAMES.get(name, plain(name)), part))
    lines += ["", click.style("by block", bold=True)]
    lines += [_row(name, part) for name, part in document["blocks"].items()]
    if document["empty"]:
        lines += ["", "It changes nothing: every update is zero."]
    if document["notes"]:
        lines += ["", *document["notes"]]
    metadata = list(document["metadata"].items())
    if metadata:
        lines += ["", click.style("what the file says of itself", bold=True)]
        lines += [f"  {name:<28} {value}" for name, value in metadata[:N_METADATA]]
        if len(metadata) > N_METADATA:
            lines.append(f"  … and {len(metadata) - N_METADATA} more, with --json")
    return "\n".join(lines)


def _facts(document: Mapping[str, Any]) -> dict[str, str]:
    counted = (_counted(document[name] or {}) for name in ("ranks", "alpha", "dtypes"))
    rank, alpha, dtype = counted
    source = document["alpha_source"]
    facts = {
        "Base model": document["family_evidence"],
        "Rank": rank,
        "Alpha": "the rank (the file has none)" if source == "absent" else f"{alpha} ({source})",
        "Numbers": f"d = {document['d']:,} in factors, {document['n_parameters']:,} in the file, "
        f"{dtype}, {size(document['bytes'])}",
    }
    if document["trainer"] or document["seed"] is not None:
        seed = "unknown" if document["seed"] is None else document["seed"]
        facts["Trainer"] = f"{document['trainer'] or 'unknown'}, seed {seed}"
    return facts


def _counted(counts: Mapping[str, int]) -> str:
    """One value as it is, several with how often each occurs."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({n}x)" for value, n in counts.items())


def _row(name: str, part: Mapping[str, Any]) -> str:
    return f"  {name:<20}{part['n_modules']:>8}{part['d']:>13,}{part['norm']:>13.4g}"


def _parts(adapter: Adapter, energies: Energies) -> dict[str, Any]:
    from lorastyle.adapters.naming import OTHER_PARTS
    from lorastyle.records import SUB_NETWORKS

    names = {key: update.part for key, update in adapter.updates.items()}
    return _summed(adapter, energies, names, (*SUB_NETWORKS, *OTHER_PARTS))


def _blocks(adapter: Adapter, energies: Energies) -> dict[str, Any]:
    from lorastyle.adapters.naming import block_of

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
