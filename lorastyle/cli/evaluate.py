"""`lorastyle evaluate`: one stage of a run, and its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import Answer, respond
from lorastyle.cli.opening import open_run
from lorastyle.cli.stages import carry_out_stages, describe, experiment_options, line

if TYPE_CHECKING:
    from lorastyle.runs import Run

SHOWN = ("clustering", "retrieval-test", "comparison", "similarity", "sub-networks")
"""Tables that are printed; the others are files."""


@click.command(name="evaluate")
@experiment_options
def command(
    target: Path | str,
    overrides: tuple[str, ...],
    directory: Path | str | None,
    force: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Measure clustering and retrieval, beside image features.

    Prints the tables. Writes evaluation/metrics.json, single scores as Parquet, and every table
    as Markdown, LaTeX, CSV and JSON to evaluation/tables/, where the paper's numbers stand too.
    """

    def body() -> Answer:
        run = open_run(target, directory, overrides, force=force)
        (outcome,) = carry_out_stages(run, ["evaluate"], force=force)
        document = {"run": str(run.location), **describe(outcome), "tables": _documents(run)}
        parts = [line(outcome), *_texts(run)]
        if len(parts) > 1:
            parts.append(f"All tables, and the paper's: {_directory(run)}")
        return Answer(document, "\n\n".join(parts))

    respond(body, as_json=as_json, debug=debug)


def _directory(run: Run) -> Path:
    return run.evaluation_path / "tables"


def _documents(run: Run) -> dict[str, Any]:
    """Every table by name; none where an earlier version evaluated."""
    paths = sorted(_directory(run).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def _texts(run: Run) -> list[str]:
    """What is printed, without the paper's numbers where they do not belong to this run."""
    from lorastyle.evaluation.table_formats import PAPER_HEADING

    paths = [_directory(run) / f"{name}.md" for name in SHOWN]
    texts = [path.read_text(encoding="utf-8") for path in paths if path.is_file()]
    return [text.partition(PAPER_HEADING)[0].rstrip() for text in texts]
