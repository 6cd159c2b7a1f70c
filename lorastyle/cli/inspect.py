"""`lorastyle inspect`: what a run holds, without loading any model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import Answer, answer_options, respond
from lorastyle.cli.stages import summary
from lorastyle.report.words import KIND_NAMES, duration, size

if TYPE_CHECKING:
    from lorastyle.runs import Run


@click.command(name="inspect")
@click.argument("target", type=click.Path(exists=True, path_type=Path), metavar="RUN")
@answer_options
def command(target: Path, as_json: bool, debug: bool) -> None:
    """Say what a run holds: stages done, adapters by role and status, sizes."""

    def body() -> Answer:
        from lorastyle.runs import Run

        document = describe_run(Run.open(target))
        return Answer(document, run_text(document))

    respond(body, as_json=as_json, debug=debug)


def describe_run(run: Run) -> dict[str, Any]:
    """Plain values about a run, finished or not."""
    from lorastyle.runs import STAGES

    return {
        "kind": "run",
        "path": str(run.directory),
        "name": run.experiment.name,
        "base": run.experiment.base,
        "config_hash": run.experiment.hash(),
        "stages": {stage: _stage(run.manifest(stage)) for stage in STAGES},
        "store": _store(run),
    }


def run_text(document: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{document['path']}: run {document['name']!r} on {document['base']}", ""]
    for name, stage in document["stages"].items():
        mark = click.style("✓", fg="green") if stage["done"] else "–"
        made = summary(name, stage["outputs"]) if stage["done"] else "not done"
        time = duration(stage["wall_s"]) if stage["done"] else ""
        lines.append(f"{mark} {name:<9} {made:<52} {time:>13}".rstrip())
    store = document["store"]
    if store is None:
        return "\n".join([*lines, "", "No adapters yet."])
    planned = f" of {store['n_planned']} planned" if store["n_planned"] else ""
    lines += [
        "",
        f"{store['n_adapters']} adapters{planned}, d = {store['d']:,}, rank {store['rank']}, "
        f"alpha {store['alpha']:g}, {size(store['bytes'])} on disk",
    ]
    for role, statuses in store["by_role"].items():
        counts = ", ".join(f"{n} {status.replace('_', '-')}" for status, n in statuses.items())
        lines.append(f"  {KIND_NAMES.get(role, role):<20} {counts}")
    return "\n".join(lines)


def _stage(manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    if manifest is None:
        return {"done": False}
    kept = ("wall_s", "finished_at", "outputs")
    return {"done": True, **{key: manifest[key] for key in kept}}


def _store(run: Run) -> dict[str, Any] | None:
    """The adapter store's rows by role and status, or None where there is none yet."""
    if not run.store_path.exists():
        return None
    from lorastyle.store.adapter_store import AdapterStore

    store = AdapterStore.open(run.store_path)
    records = store.committed().values()
    by_role: dict[str, Counter[str]] = {}
    for record in records:
        by_role.setdefault(str(record.spec.get("role")), Counter())[record.status] += 1
    return {
        "n_adapters": len(records),
        "n_planned": (run.manifest("plan") or {}).get("outputs", {}).get("n_adapters"),
        "by_role": {role: dict(by_role[role]) for role in KIND_NAMES if role in by_role},
        "d": store.size,
        "rank": store.rank,
        "alpha": store.alpha,
        "bytes": sum(file.stat().st_size for file in run.store_path.rglob("*") if file.is_file()),
    }
