"""`lorastyle`: one verb a file, loaded only when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click

from lorastyle import __version__

VERBS: Mapping[str, str] = {
    "demo": "Run the whole pipeline on the shipped miniature.",
    "run": "Carry out all stages of an experiment.",
    "plan": "Read the images, split them, plan every adapter.",
    "train": "Train the planned adapters on a Ray cluster or here.",
    "embed": "Fit the style spaces of the trained adapters.",
    "sweep": "Choose PC counts and sub-network on validation.",
    "evaluate": "Measure clustering and retrieval, beside image features.",
    "ablate": "Vary one thing, keep all else, compare the scores.",
    "report": "Write the figures and the offline page.",
    "explore": "Write a page to look around in the style spaces.",
    "submit": "Run stages as a job on a Ray cluster, and follow it.",
    "cluster": "Start a Ray cluster on this machine to try things on.",
    "ingest": "Add LoRA files from elsewhere to a run.",
    "search": "Find whose style a LoRA file has.",
    "serve": "Search from a browser, or from programs.",
    "compare": "Say what two LoRA files are to each other.",
    "generate": "Make images with adapters of a run.",
    "export": "Write adapters of a run as LoRA files.",
    "inspect": "Say what a LoRA file or a run holds.",
    "store": "Check the adapters of a run, and say how they stand.",
}
"""In the order in which a newcomer needs them; the first line of each verb's help."""


class Verbs(click.Group):
    """A group that imports a verb's module when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"lorastyle.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing the verbs."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`lorastyle VERB --help` explains a verb. Start with `lorastyle demo`.",
)
@click.version_option(__version__, prog_name="lorastyle")
def main() -> None:
    """Read the artistic style of a LoRA adapter from its weights alone."""


if __name__ == "__main__":
    main()
