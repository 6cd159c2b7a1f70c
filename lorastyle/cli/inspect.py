"""`lorastyle inspect`: what a LoRA file or a run holds, without loading any model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import Answer, answer_options, respond
from lorastyle.cli.opening import FILE_OR_RUN
from lorastyle.cli.stages import summary
from lorastyle.errors import AdapterFileError, StageError
from lorastyle.report.words import KIND_NAMES, duration, size

if TYPE_CHECKING:
    from lorastyle.runs import Run
    from lorastyle.store.adapter_store import AdapterStore


@click.command(name="inspect")
@click.argument("target", type=FILE_OR_RUN, metavar="FILE|RUN")
@answer_options
def command(target: Path | str, as_json: bool, debug: bool) -> None:
    """Say what a LoRA file or a run holds.

    Of a file: format, base model, rank, alpha, which modules it changes and how much, what
    it says of its training. Of a run: stages done, adapters by role and status, sizes.
    """

    def body() -> Answer:
        if isinstance(target, str) or (target / "config.yaml").is_file():
            from lorastyle.runs import Run

            document = describe_run(Run.open(target))
            return Answer(document, run_text(document))
        from lorastyle.cli.inspect_file import file_text
        from lorastyle.search.description import describe_file

        try:
            document = describe_file(target)
        except AdapterFileError as error:
            if not target.is_dir():
                raise
            raise StageError(f"{target} is not a run (no config.yaml), and {error}") from error
        return Answer(document, file_text(document))

    respond(body, as_json=as_json, debug=debug)


def describe_run(run: Run) -> dict[str, Any]:
    """Plain values about a run, finished or not."""
    return {
        "kind": "run",
        "path": str(run.location),
        "name": run.experiment.name,
        "base": run.experiment.base,
        "config_hash": run.experiment.hash(),
        "stages": {stage: _stage(run.manifest(stage)) for stage in run.stages},
        "store": _store(run),
        "ingested": _ingested(run),
    }


def run_text(document: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{document['path']}: run {document['name']!r} on {document['base']}", ""]
    for name, stage in document["stages"].items():
        mark = click.style("✓", fg="green") if stage["done"] else "–"
        made = summary(name, stage["outputs"]) if stage["done"] else "not done"
        time = duration(stage["wall_s"]) if stage["done"] else ""
        lines.append(f"{mark} {name:<9} {made:<52} {time:>13}".rstrip())
    store, ingested = document["store"], document["ingested"]
    if ingested is not None:
        lines += ["", *_ingested_lines(ingested)]
    if store is None:
        return "\n".join(lines if ingested else [*lines, "", "No adapters yet."])
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


def _ingested_lines(ingested: Mapping[str, Any]) -> list[str]:
    ranks = ", ".join(f"{n} of rank {rank}" for rank, n in ingested["by_rank"].items())
    formats = ", ".join(f"{n} {name}" for name, n in ingested["by_format"].items())
    lines = [
        f"{ingested['n_adapters']} adapters from elsewhere: {ranks}",
        f"  {formats}; {ingested['n_artists']} artists, {ingested['n_unlabelled']} unlabelled",
    ]
    bad = {name: n for name, n in ingested["by_status"].items() if name != "ok"}
    if bad:
        counts = ", ".join(f"{n} {name.replace('_', '-')}" for name, n in bad.items())
        lines.append(f"  {counts}: kept out of every fit")
    return lines


def _stage(manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    if manifest is None:
        return {"done": False}
    kept = ("wall_s", "finished_at", "outputs")
    return {"done": True, **{key: manifest[key] for key in kept}}


def _ingested(run: Run) -> dict[str, Any] | None:
    """Adapters that were ingested, or None where there are none."""
    from lorastyle.records import UNLABELLED
    from lorastyle.store.ingested import IngestedStore

    store = IngestedStore.find(run.ingested_path)
    if store is None:
        return None
    records = list(store.committed().values())
    artists = [str(record.spec.get("artist")) for record in records]
    facts = [record.receipt.get("facts", {}) for record in records]
    ranks = Counter(
        max((int(r) for r in each.get("ranks", {}) if r.isdigit()), default=0) for each in facts
    )
    return {
        "n_adapters": len(records),
        "n_artists": len({artist for artist in artists if artist != UNLABELLED}),
        "n_unlabelled": artists.count(UNLABELLED),
        "by_status": dict(Counter(record.status for record in records)),
        "by_rank": dict(sorted(ranks.items())),
        "by_format": dict(Counter(str(each.get("format")) for each in facts)),
    }


def _store(run: Run) -> dict[str, Any] | None:
    """The adapter store's rows by role and status, or None where there is none yet."""
    if not run.has_store:
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
        "bytes": _bytes_of(store, len(records)),
    }


def _bytes_of(store: AdapterStore, n_adapters: int) -> int:
    """What the store takes; in a bucket its weights alone, for nobody lists them to know."""
    if isinstance(store.path, Path):
        return sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    return 4 * store.size * n_adapters
