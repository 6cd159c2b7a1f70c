"""`lorastyle search`: whose style is this file?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorastyle.cli.answer import Answer, answer_options, respond
from lorastyle.cli.opening import RUN
from lorastyle.report.words import space_name
from lorastyle.search.words import VERDICT_WORDS

if TYPE_CHECKING:
    from lorastyle.search.found import SearchResult

SHOWN = 10
"""Neighbours that the terminal lists; --json has all."""


@click.command(name="search")
@click.argument("target", type=RUN, metavar="RUN")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--top-k", type=click.IntRange(min=1), default=24, show_default=True, help="Neighbours to find."
)
@click.option(
    "--representation",
    type=click.Choice(("factors", "delta", "delta-aligned")),
    help="Default: the best one that the file can be placed in.",
)
@click.option(
    "--subnetwork",
    "sub_network",
    metavar="EXPRESSION",
    help="As in feed_forward, or full-cross_attention: docs/sub-networks.md. Default: the sweep's "
    "best.",
)
@click.option(
    "--components", type=click.IntRange(min=1), help="Principal components. Default: the sweep's."
)
@answer_options
def command(
    target: Path | str,
    file: Path,
    top_k: int,
    representation: str | None,
    sub_network: str | None,
    components: int | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Find the adapters of a run whose style is nearest to a LoRA file's.

    The file may have another format, rank or training seed than the run's adapters. Names the
    nearest artists, and adapters that are the same again.
    """

    def body() -> Answer:
        from lorastyle.runs import Run
        from lorastyle.search.search import search

        run = Run.open(target)
        found = search(
            run,
            file,
            top_k=top_k,
            representation=representation,
            sub_network=sub_network,
            n_components=components,
        )
        return Answer({"run": str(target), "file": str(file), **found.to_dict()}, _text(found))

    respond(body, as_json=as_json, debug=debug)


def _text(found: SearchResult) -> str:
    space = space_name(f"{found.representation}/{found.sub_network}")
    lines = [
        f"{found.query} among {found.n_gallery:,} adapters, by {space}, "
        f"{found.n_components} components",
        f"  ({found.why})",
    ]
    if found.coverage < 0.995:
        lines.append(f"  compared on {found.coverage:.0%} of the updates: the rest is in one alone")
    if found.method == "sketch":
        lines.append("  placed by sketches, whose cosines are off by about 0.006")
    if found.is_far:
        lines.append(
            f"  far from all: its nearest neighbour is {found.nearest_distance:.3g} away, "
            f"adapters here usually have one at {found.usual_distance:.3g}"
        )
    lines += [f"  {note}" for note in found.notes]
    for duplicate in found.duplicates:
        lines += [
            "",
            click.style(f"{VERDICT_WORDS[duplicate.verdict]}: {duplicate.adapter_id}", bold=True),
        ]
        lines += [f"  {sentence}" for sentence in duplicate.evidence]
    if found.artists:
        lines += ["", click.style("nearest artists", bold=True)]
        lines += [
            f"  {one.score:>5.0%}  {one.artist:<32} {one.n_neighbours} of "
            f"{len(found.neighbours)} neighbours"
            for one in found.artists[:5]
        ]
    lines += ["", click.style("nearest adapters", bold=True)]
    lines += [
        f"  {one.distance:>8.4f}  {one.adapter_id[:44]:<44} {one.artist}"
        for one in found.neighbours[:SHOWN]
    ]
    return "\n".join(lines)
