"""`lorastyle demo`: the whole pipeline on what the package brings along."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from lorastyle.cli.answer import Answer, answer_options, respond, say
from lorastyle.cli.opening import NEW_RUN
from lorastyle.cli.stages import carry_out_stages, say_outcome

DEFAULT = Path("runs/demo")


@click.command(name="demo")
@click.option(
    "--out",
    type=NEW_RUN,
    default=DEFAULT,
    show_default=True,
    help="Where the run lies: a directory, or s3://BUCKET/PREFIX (also gs://).",
)
@click.option("--force", is_flag=True, help="Make everything again.")
@answer_options
def command(out: Path | str, force: bool, as_json: bool, debug: bool) -> None:
    """Run the whole pipeline on the shipped miniature.

    Twelve invented painters, 252 adapters, minutes on two cores; no GPU and no
    download. Ends with the table of results and an offline page.
    """

    def body() -> Answer:
        from lorastyle.cli.results import whole_run_answer
        from lorastyle.config import load_experiment
        from lorastyle.runs import STAGES, Run

        with resources.as_file(resources.files("lorastyle.configs") / "demo.yaml") as config:
            run = Run.create(out, load_experiment(config), force=force)
        say(f"The whole pipeline on the shipped miniature, in {out}")
        outcomes = carry_out_stages(run, STAGES, force=force, shown=say_outcome)
        again = f"lorastyle demo{'' if out == DEFAULT else f' --out {out}'} --force"
        return whole_run_answer(run, outcomes, again)

    respond(body, as_json=as_json, debug=debug)
