"""`lorastyle ingest`: adapters in the wild into a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import Answer, answer_options, respond, say
from lorastyle.cli.opening import NEW_RUN

if TYPE_CHECKING:
    from lorastyle.ingest.finding import Candidate
    from lorastyle.ingest.stage import Ingestion
    from lorastyle.runs import Run

SHOWN = 20
"""Refused files that the terminal lists; all are in refused.csv."""


@click.command(name="ingest")
@click.argument("directory", type=NEW_RUN, metavar="RUN")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE|DIR..."
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with the columns file, and any of artist, genre, role.",
)
@click.option(
    "--base",
    help="Of a new run: sd1, sd2, sdxl, or a base model's folder. Default: what the first file is.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of a new run: a setting, as in protocol.calibration=3; may be repeated.",
)
@answer_options
def command(
    directory: Path | str,
    paths: tuple[Path, ...],
    labels: Path | None,
    base: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    debug: bool,
) -> None:
    """Add LoRA files to a run, whatever trainer wrote them.

    Files are recognised by what they hold: kohya, diffusers, PEFT, cloneofsimo, LyCORIS and
    others, of any rank. Files that cannot be used are named and passed over. A RUN that is not
    there is made, without images or training; embed, evaluate and search work on it.
    """

    def body() -> Answer:
        from lorastyle.ingest.finding import find_candidates
        from lorastyle.ingest.labels import read_labels
        from lorastyle.ingest.stage import ingest

        known = read_labels(labels) if labels else {}
        candidates = find_candidates(paths)
        run = _run(directory, candidates, base, overrides)
        found = ingest(run, candidates, known)
        document = {"run": str(run.location), "base": run.experiment.base, **found.to_dict()}
        if not found.added and not found.already:
            say(_text(run, found))
            _refuse(found)
        return Answer(document, _text(run, found))

    respond(body, as_json=as_json, debug=debug)


def _refuse(found: Ingestion) -> None:
    from lorastyle.errors import AdapterFileError

    first = found.refused[0]
    reason = first.reason if len(found.refused) == 1 else f"first {first.file}: {first.reason}"
    raise AdapterFileError(f"none of {len(found.refused)} files was taken; {reason}")


def _run(
    directory: Path | str,
    candidates: Sequence[Candidate],
    base: str | None,
    overrides: Sequence[str],
) -> Run:
    """The run that is there, or a new one for adapters only."""
    from lorastyle.errors import ConfigError
    from lorastyle.ingest.family import family_of_first
    from lorastyle.ingest.new_run import experiment_for_adapters
    from lorastyle.places.place import place_of
    from lorastyle.runs import Run

    if place_of(directory).exists("config.yaml"):
        run = Run.open(directory)
        if base not in (None, run.experiment.base) or overrides:
            raise ConfigError(
                f"{directory} is there already, on {run.experiment.base}; --base and --set are "
                "for a new run"
            )
        return run
    chosen = base or family_of_first(candidates)
    say(f"a new run for adapters of {chosen}, in {directory}")
    name = PurePosixPath(str(directory)).name
    return Run.create(directory, experiment_for_adapters(name, chosen, overrides))


def _text(run: Run, found: Ingestion) -> str:
    counts = [f"{len(found.added)} added"]
    if found.already:
        counts.append(f"{len(found.already)} there already")
    if found.relabelled:
        counts.append(f"{len(found.relabelled)} of them labelled anew")
    counts.append(f"{len(found.refused)} refused")
    lines = [f"{run.location}: {', '.join(counts)}"]
    zero = [taken for taken in found.added if taken.status != "ok"]
    if zero:
        names = ", ".join(taken.adapter_id for taken in zero[:SHOWN])
        lines.append(f"  {len(zero)} change nothing and are left out of every fit: {names}")
    noted = [taken for taken in found.added if taken.notes]
    lines += [f"  {taken.file}: {' '.join(taken.notes)}" for taken in noted[:SHOWN]]
    if found.unused_labels:
        lines.append(
            f"  {len(found.unused_labels)} labels fit no file, first {found.unused_labels[0]!r}"
        )
    if found.refused:
        lines += ["", *_refused_table(found)]
        if len(found.refused) > SHOWN:
            more = len(found.refused) - SHOWN
            lines.append(f"… and {more} more, in {run.ingested_path}/refused.csv")
    if found.added or found.relabelled:
        lines += ["", f"Next: {_next(run)}"]
    return "\n".join(lines)


def _next(run: Run) -> str:
    """What to do with them. New ones are placed by search itself; labels need an embedding."""
    if run.manifest("embed") is None:
        return f"lorastyle embed {run.location}"
    found = f"lorastyle search {run.location} FILE"
    if run.is_planned:
        return found
    return f"{found}, or lorastyle embed {run.location} --force to fit on them too"


def _refused_table(found: Ingestion) -> list[str]:
    shown: list[Any] = found.refused[:SHOWN]
    width = min(48, max(len(each.file) for each in shown))
    return [
        click.style("refused", bold=True),
        *(f"  {each.file[-width:]:<{width}}  {each.reason}" for each in shown),
    ]
