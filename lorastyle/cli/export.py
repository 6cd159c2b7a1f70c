"""`lorastyle export`: adapters of a run as files that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lorastyle.cli.answer import Answer, answer_options, respond
from lorastyle.cli.members import adapters_of_a_run, chosen_rows


@click.command(name="export")
@adapters_of_a_run
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
        from lorastyle.runs.file_names import safe_name
        from lorastyle.store.members import read_member

        run = Run.open(target)
        chosen = chosen_rows(run, names, everything)
        suffix = "" if file_format == "peft" else ".safetensors"
        written = []
        for name, row in chosen.items():
            path = out / (safe_name(name) + suffix)
            metadata = {"lorastyle.adapter_id": name, "lorastyle.base": run.experiment.base}
            write_adapter(read_member(run, row), path, file_format, dtype=dtype, metadata=metadata)
            written.append({"adapter_id": name, "path": str(path)})
        document = {"run": str(target), "format": file_format, "written": written}
        return Answer(
            document, f"{len(written)} adapters written to {out} ({file_format}, {dtype})"
        )

    respond(body, as_json=as_json, debug=debug)
