"""`lorastyle ablate`: one thing is varied, all else stays, and the scores stand side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lorastyle.ablation.factors import FACTORS
from lorastyle.cli.answer import Answer, answer_options, respond, say
from lorastyle.cli.embed import SubNetwork
from lorastyle.cli.opening import RUN

Command = TypeVar("Command", bound=Callable[..., Any])


def ablation_options(when: str = "") -> Callable[[Command], Command]:
    """How a factor is varied, as options of a verb; `when` stands before what each says."""
    options = (
        click.option(
            "--values",
            help=f"{when}What to try, as in 1,2,4 or full,none. Default: docs/ablations.md says.",
        ),
        click.option(
            "--representation",
            "representations",
            multiple=True,
            type=click.Choice(("factors", "delta", "delta-aligned")),
            help=f"{when}Compare adapters by this; may be repeated. Default: all that the run "
            "embeds.",
        ),
        click.option(
            "--subnetwork",
            "sub_network",
            type=SubNetwork(),
            help=f"{when}Compare these modules only, as in feed_forward. Default: full.",
        ),
        click.option(
            "--draws",
            "n_draws",
            type=click.IntRange(min=1),
            help=f"{when}How many sets of adapters of each size gallery-size draws. Default: 3.",
        ),
    )

    def decorated(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def check_options(factor: str, sub_network: str | None, n_draws: int | None) -> None:
    """Raise UsageError for an option that means nothing for this factor."""
    if n_draws is not None and factor != "gallery-size":
        raise click.UsageError(f"--draws is of gallery-size; {factor} draws nothing")
    if sub_network is not None and factor == "sub-networks":
        raise click.UsageError("--subnetwork is what sub-networks varies; name them with --values")


@click.command(name="ablate")
@click.argument("target", type=RUN, metavar="RUN")
@click.argument("factor", type=click.Choice(tuple(FACTORS)), metavar="FACTOR")
@ablation_options()
@answer_options
def command(
    target: Path | str,
    factor: str,
    values: str | None,
    representations: tuple[str, ...],
    sub_network: str | None,
    n_draws: int | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Vary one FACTOR of a run and score every value.

    Of an embedded run, without training: components, sub-networks, calibration, gallery-size.
    Trained beside the run where it is missing: rank, initialisation, images. PC count and
    calibration are chosen on validation for each value. Prints a table; writes it to
    ablations/FACTOR.md, .csv and .json, and of an ordered factor a figure.
    """
    check_options(factor, sub_network, n_draws)

    def body() -> Answer:
        from lorastyle.ablation.request import N_DRAWS, Request
        from lorastyle.ablation.tables import to_markdown
        from lorastyle.ablation.writing import write_ablation
        from lorastyle.distributed.ablating import ablate
        from lorastyle.runs import Run

        one = FACTORS[factor]
        request = Request(
            one,
            None if values is None else one.read_values(values),
            representations,
            sub_network or "full",
            n_draws or N_DRAWS,
        )
        run = Run.open(target)
        found = ablate(run, request, tell=say)
        files = write_ablation(run, found)
        document: dict[str, Any] = {"run": str(run.location), **found.to_dict()}
        document["files"] = [str(path) for path in files]
        names = ", ".join(path.name for path in files)
        return Answer(document, f"{to_markdown(found)}\n{names} in {files[0].parent}")

    respond(body, as_json=as_json, debug=debug)
