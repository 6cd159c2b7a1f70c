"""What `inspect` says of a LoRA file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from lorastyle.report.words import SUB_NETWORK_NAMES, plain, size
from lorastyle.search.words import FAMILY_NAMES

N_METADATA = 12
"""Entries of the file's own metadata that the terminal shows; --json has all."""


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
