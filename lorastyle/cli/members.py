"""From the adapters that the user named to rows of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from lorastyle.cli.opening import RUN

if TYPE_CHECKING:
    from lorastyle.runs import Run


def adapters_of_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments RUN and ADAPTER..., and --all: `target`, `names`, `everything`."""
    command = click.option("--all", "everything", is_flag=True, help="Every adapter of the run.")(
        command
    )
    command = click.argument("names", nargs=-1, metavar="ADAPTER...")(command)
    return click.argument("target", type=RUN, metavar="RUN")(command)


def chosen_rows(run: Run, names: Sequence[str], everything: bool) -> Mapping[str, int]:
    """Row numbers by name: of those named, or of all adapters.

    Raises UsageError where it is neither or both, StoreError for an unknown name.
    """
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
