"""`lorastyle store`: how a run's adapters stand, and whether they are what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import FAILED, Answer, answer_options, respond
from lorastyle.cli.opening import RUN
from lorastyle.report.words import KIND_NAMES, plain, size

if TYPE_CHECKING:
    from lorastyle.store.census import Census
    from lorastyle.store.upkeep import Scrubbed, Standing

SHOWN = 10
"""Rows of a kind that the terminal lists; `--json` has all."""


@click.group(
    name="store",
    epilog="`lorastyle store VERB --help` explains a verb; each takes --json and --debug.",
)
def command() -> None:
    """Check the adapters of a run, and say how they stand."""


@command.command(name="status")
@click.argument("target", type=RUN, metavar="RUN")
@answer_options
def status(target: Path | str, as_json: bool, debug: bool) -> None:
    """Say which adapters of a run are made, missing, failed or being written.

    Only records are read; `scrub` reads the weights. Nothing is changed, and writers may
    be at work.
    """

    def body() -> Answer:
        from lorastyle.runs import Run
        from lorastyle.store.upkeep import plain_census, standing

        run = Run.open(target)
        found = standing(run)
        epoch = found.epoch
        document = {
            "run": str(run.location),
            "stores": {name: plain_census(census) for name, census in found.stores.items()},
            "epoch": None
            if epoch is None
            else {"number": epoch.number, "claimed_at": epoch.claimed_at, "owner": epoch.owner},
            "stale_files": found.n_stale,
        }
        return Answer(document, _status_text(found))

    respond(body, as_json=as_json, debug=debug)


@command.command(name="scrub")
@click.argument("target", type=RUN, metavar="RUN")
@click.option("--dry-run", is_flag=True, help="Only say which rows are bad.")
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Look at N rows of each store, by chance."
)
@answer_options
def scrub(
    target: Path | str, dry_run: bool, sample: int | None, as_json: bool, debug: bool
) -> None:
    """Read every adapter of a run, compare it with its record, and requeue the bad ones.

    A bad row is absent afterwards; `lorastyle train RUN` makes exactly these again, and
    `lorastyle ingest RUN FILES` those that came from files. Writers may be at work. Status 0
    where all rows are good, 1 where some were bad.
    """
    n_bad = 0

    def body() -> Answer:
        nonlocal n_bad
        from lorastyle.runs import Run
        from lorastyle.store.upkeep import scrub_run

        run = Run.open(target)
        scrubbed = scrub_run(run, requeue=not dry_run, sample=sample)
        n_bad = sum(len(one.found.bad) for one in scrubbed)
        document = {
            "run": str(run.location),
            "n_bad": n_bad,
            "n_requeued": sum(len(one.requeued) for one in scrubbed),
            "stores": {one.name: _plain_scrub(one) for one in scrubbed},
        }
        return Answer(document, _scrub_text(scrubbed, str(run.location), dry_run))

    respond(body, as_json=as_json, debug=debug)
    if n_bad:
        raise SystemExit(FAILED)


def _plain_scrub(one: Scrubbed) -> dict[str, Any]:
    found = one.found
    return {
        "n_good": found.n_good,
        "n_failed": found.n_failed,
        "bad": [
            {"row": bad.row, "adapter_id": bad.adapter_id, "what": bad.what} for bad in found.bad
        ],
        "requeued": one.requeued,
        "unfinished": found.unfinished,
        "orphans": found.orphans,
        "stale_files": one.n_swept,
    }


def _scrub_text(scrubbed: Sequence[Scrubbed], run: str, dry_run: bool) -> str:
    lines = []
    for one in scrubbed:
        found = one.found
        lines.append(f"{one.name}: {found.n_good:,} rows good, {len(found.bad):,} bad")
        lines += _listed([f"{bad.adapter_id or bad.row}: {bad.what}" for bad in found.bad])
        aside = {
            "recorded as failed": found.n_failed,
            "being written, interrupted or set aside": len(found.unfinished),
            "weights without a record, which the next writer replaces": len(found.orphans),
            "temporary files of killed writers": one.n_swept,
        }
        lines += [f"  {n:,} {what}" for what, n in aside.items() if n]
        if found.bad:
            lines.append(f"  {_next_step(one, run, dry_run)}")
    return "\n".join(lines)


def _next_step(one: Scrubbed, run: str, dry_run: bool) -> str:
    if dry_run:
        return "nothing was changed; without --dry-run they are made again"
    command = f"lorastyle train {run}" if one.stage == "train" else f"lorastyle ingest {run} FILES"
    left = len(one.found.bad) - len(one.requeued)
    others = f"; {left:,} were written meanwhile, scrub again" if left else ""
    return f"{len(one.requeued):,} set aside; `{command}` makes exactly these again{others}"


def _status_text(found: Standing) -> str:
    lines = []
    for name, census in found.stores.items():
        lines += [f"{name}: {_summary(census)}", *_roles(census)]
        lines += _listed(
            [f"failed: {one.spec.get('adapter_id')}: {one.reason}" for one in census.failed]
        )
        lines += _listed([f"set aside: row {one.row}: {one.reason}" for one in census.requeued])
        if census.damaged:
            rows = ", ".join(map(str, census.damaged[:SHOWN]))
            lines.append(f"  records that cannot be read, rows {rows}: `lorastyle store scrub`")
    epoch = found.epoch
    lines.append(f"{epoch.describe()}, at {epoch.claimed_at}" if epoch else "no epoch claimed")
    if found.n_stale:
        lines.append(f"{found.n_stale:,} temporary files of killed writers; scrub removes them")
    return "\n".join(lines)


def _summary(census: Census) -> str:
    counts = {
        "made": census.n_made,
        "missing": len(census.missing),
        "failed": census.by_status["failed"],
        "zero": census.by_status["zero"],
        "non-finite": census.by_status["non_finite"],
        "being written": len(census.writing),
        "set aside": len(census.requeued),
        "damaged records": len(census.damaged),
        "unexpected": len(census.unexpected),
    }
    shown = [f"{n:,} {what}" for what, n in counts.items() if n or what == "made"]
    return f"{', '.join(shown)}; {size(census.n_bytes)}"


def _roles(census: Census) -> list[str]:
    return [f"  {KIND_NAMES.get(role, role)}: {_counted(n)}" for role, n in census.by_role.items()]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n:,} {plain(status)}" for status, n in sorted(counts.items()))


def _listed(lines: Sequence[str]) -> list[str]:
    more = [f"  and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return [f"  {line}" for line in lines[:SHOWN]] + more
