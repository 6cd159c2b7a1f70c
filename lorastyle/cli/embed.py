"""`lorastyle embed`: one pass over the store, and every style space that follows from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lorastyle.cli.answer import Answer, respond
from lorastyle.cli.opening import open_run
from lorastyle.cli.stages import carry_out_stages, describe, experiment_options, line
from lorastyle.errors import ConfigError
from lorastyle.report.words import duration, size
from lorastyle.sub_networks import check_entry

UNITS = {"": 2**30, "B": 1, "kB": 1e3, "KiB": 2**10, "MB": 1e6, "MiB": 2**20}
UNITS |= {"GB": 1e9, "GiB": 2**30, "TB": 1e12, "TiB": 2**40}


class Memory(click.ParamType):  # type: ignore[type-arg]
    """`2GiB`, `500MB`, or a bare number of GiB; the value is in GiB."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]?i?B?)\s*", str(value))
        unit = UNITS.get(found[2]) if found else None
        if found is None or unit is None or float(found[1]) == 0:
            self.fail(f"{value!r} is not a size; write for example 2GiB or 500MB", param, ctx)
        return float(found[1]) * unit / 2**30


class SubNetwork(click.ParamType):  # type: ignore[type-arg]
    """An expression of sub-networks, or a family of them."""

    name = "sub-network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_entry(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


@click.command(name="embed")
@click.option(
    "--representation",
    "representations",
    multiple=True,
    type=click.Choice(("factors", "delta", "delta-aligned")),
    help="Compare adapters by this; may be repeated. Sweep, evaluate and search follow. "
    "Default: the run's.",
)
@click.option(
    "--subnetwork",
    "sub_networks",
    multiple=True,
    type=SubNetwork(),
    help="Fit style spaces of this sub-network only, as in feed_forward, full-cross_attention or "
    "by-projection; may be repeated. Default: the run's.",
)
@click.option(
    "--components", type=click.IntRange(min=1), help="Principal components to keep, at most."
)
@click.option(
    "--memory", type=Memory(), help="Working memory of the pass, as in 2GiB. Default: the run's."
)
@click.option(
    "--write-components",
    is_flag=True,
    help="Write the components (k x d) of every factor space too: a second pass.",
)
@experiment_options
def command(
    target: Path | str,
    overrides: tuple[str, ...],
    directory: Path | str | None,
    force: bool,
    representations: tuple[str, ...],
    sub_networks: tuple[str, ...],
    components: int | None,
    memory: float | None,
    write_components: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Fit the style spaces of the trained adapters.

    One pass over the store gives the Gram matrices of every sub-network and representation;
    PCA and calibration follow from them. Adapters that were embedded before are not
    multiplied again, and a pass that was interrupted continues.
    """

    def body() -> Answer:
        chosen = [*overrides, *_settings(representations, sub_networks, components, memory)]
        run = open_run(target, directory, chosen, force=force)
        (outcome,) = carry_out_stages(run, ["embed"], force=force)
        document: dict[str, Any] = {"run": str(run.location), **describe(outcome)}
        lines = [line(outcome)]
        record = _record(run.embedding_path)
        if record is not None:
            document["pass"] = record
            lines += [] if outcome.skipped else [pass_line(record)]
        for name, reason in outcome.outputs.get("absent_spaces", {}).items():
            lines.append(f"  no {name}: {reason}")
        if write_components:
            document["components"] = _write_components(run)
            lines.append(f"  {len(document['components'])} component matrices written")
        return Answer(document, "\n".join(lines))

    respond(body, as_json=as_json, debug=debug)


def _settings(
    representations: tuple[str, ...],
    sub_networks: tuple[str, ...],
    components: int | None,
    memory: float | None,
) -> list[str]:
    """The options as `key=value` overrides."""
    chosen = []
    if representations:
        chosen.append(f"embedding.representations=[{', '.join(representations)}]")
    if sub_networks:
        # Quoted: `*` and `&` are signs of YAML too.
        chosen.append(f"embedding.sub_networks={json.dumps(sub_networks)}")
    if components is not None:
        chosen.append(f"embedding.max_components={components}")
    if memory is not None:
        chosen.append(f"compute.memory_gib={memory!r}")
    return chosen


def pass_line(record: Mapping[str, Any]) -> str:
    """What the pass read and took, in a line.

    >>> pass_line({"n_adapters": 12, "n_new": 12, "n_resumed": 0, "bytes_read": 36.2e9,
    ...            "wall_s": 128.0, "n_segments": 61})
    '  read 36.2 GB in 2 min 8 s (283 MB/s), 61 segments'
    """
    if "bytes_read" not in record:
        return "  all products were there already; nothing was read"
    rate = record["bytes_read"] / max(record["wall_s"], 1e-3)
    parts = [
        f"  read {size(record['bytes_read'])} in {duration(record['wall_s'])}"
        f" ({rate / 1e6:,.0f} MB/s)",
        f"{record['n_segments']} segments",
    ]
    if record["n_resumed"]:
        parts.append(f"{record['n_resumed']} of them before it was interrupted")
    if 0 < record["n_new"] < record["n_adapters"]:
        parts.append(f"{record['n_new']:,} of {record['n_adapters']:,} adapters new")
    return ", ".join(parts)


def _record(directory: Path) -> dict[str, Any] | None:
    from lorastyle.embedding.stage import PASS_FILE

    path = directory / PASS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write_components(run: Any) -> list[str]:
    from lorastyle.distributed.pipeline import write_run_components

    return [str(path) for path in write_run_components(run)]
