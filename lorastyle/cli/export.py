"""`lorastyle export`: adapters of a run as files that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import Answer, answer_options, respond
from lorastyle.cli.opening import RUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorastyle.runs import Run


@click.command(name="export")
@click.argument("target", type=RUN, metavar="RUN")
@click.argument("names", nargs=-1, metavar="ADAPTER...")
@click.option("--all", "everything", is_flag=True, help="Every adapter of the run.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that the files go to.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(("kohya", "diffusers", "peft")),
    default="diffusers",
    show_default=True,
    help="kohya and diffusers write a file, peft a folder.",
)
@click.option(
    "--dtype",
    type=click.Choice(("float32", "float16", "bfloat16")),
    default="float32",
    show_default=True,
)
@answer_options
def command(
    target: Path | str,
    names: tuple[str, ...],
    everything: bool,
    out: Path,
    file_format: Any,
    dtype: Any,
    as_json: bool,
    debug: bool,
) -> None:
    """Write adapters of a run as safetensors that diffusers, kohya or PEFT load.

    ADAPTER is an adapter's name, as `search` prints it.
    """

    def body() -> Answer:
        from lorastyle.adapters.formats.write import write_adapter
        from lorastyle.runs import Run
        from lorastyle.store.members import read_member

        run = Run.open(target)
        chosen = _chosen(run, names, everything)
        written = []
        for name, row in chosen.items():
            path = out / _file_name(name, file_format)
            metadata = {"lorastyle.adapter_id": name, "lorastyle.base": run.experiment.base}
            write_adapter(read_member(run, row), path, file_format, dtype=dtype, metadata=metadata)
            written.append({"adapter_id": name, "path": str(path)})
        document = {"run": str(target), "format": file_format, "written": written}
        return Answer(
            document, f"{len(written)} adapters written to {out} ({file_format}, {dtype})"
        )

    respond(body, as_json=as_json, debug=debug)


def _chosen(run: Run, names: Sequence[str], everything: bool) -> Mapping[str, int]:
    from lorastyle.errors import StoreError
    from lorastyle.store.members import rows_by_name

    if everything == bool(names):
        raise click.UsageError("name adapters, or give --all for every one")
    rows = rows_by_name(run)
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise StoreError(
            f"{run.location} has {len(rows)} adapters, none named {unknown[0]!r}; "
            f"they are named like {next(iter(rows), 'none')!r}"
        )
    return rows if everything else {name: rows[name] for name in names}


def _file_name(name: str, file_format: str) -> str:
    """A file name that leads nowhere else: names of ingested adapters are strangers' text."""
    safe = "".join(one if one.isalnum() or one in "-_." else "_" for one in name).lstrip(".")
    return (safe or "adapter") + ("" if file_format == "peft" else ".safetensors")
