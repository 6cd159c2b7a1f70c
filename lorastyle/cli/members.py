"""From the adapters that the user named to rows of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lorastyle.runs import Run


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
