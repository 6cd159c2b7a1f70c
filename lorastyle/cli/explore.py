"""`lorastyle explore`: look around in the style spaces of a run."""

from __future__ import annotations

from pathlib import Path

import click

from lorastyle.cli.answer import Answer, answer_options, respond
from lorastyle.cli.opening import RUN


@click.command(name="explore")
@click.argument("target", type=RUN, metavar="RUN")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The HTML file. Default: report/explorer.html in the run.",
)
@click.option(
    "--largest-mb",
    type=click.FloatRange(min=0),
    default=32.0,
    show_default=True,
    help="What would be a larger file becomes a folder.",
)
@answer_options
def command(
    target: Path | str, out: Path | None, largest_mb: float, as_json: bool, debug: bool
) -> None:
    """Write a page to look around in the style spaces of a run.

    Every adapter in 2D or 3D, with its training images and nearest neighbours. One HTML file that
    works without a network.
    """

    def body() -> Answer:
        from lorastyle.explorer.explore import explore
        from lorastyle.report.words import size
        from lorastyle.runs import Run

        written = explore(Run.open(target), out, largest=round(largest_mb * 1e6))
        document = {
            "run": str(target),
            "page": str(written.page),
            "bytes": written.n_bytes,
            "folder": written.is_folder,
        }
        what = "folder" if written.is_folder else "file"
        return Answer(document, f"{written.page}\n  a {what} of {size(written.n_bytes)}")

    respond(body, as_json=as_json, debug=debug)
