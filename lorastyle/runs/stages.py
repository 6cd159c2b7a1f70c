"""`carry_out`: do a stage unless it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lorastyle.errors import StageError
from lorastyle.runs.run import Run

READS: Mapping[str, tuple[str, ...]] = {
    "train": ("plan",),
    # Its own earlier matrices too: only products with new adapters are computed.
    "embed": ("plan", "embed"),
    "sweep": ("embed",),
    "evaluate": ("plan", "embed", "sweep"),
    "report": ("plan", "evaluate"),
}
"""Stages whose files a stage reads, where they are finished."""


@dataclass(frozen=True)
class StageOutcome:
    """What calling a stage did."""

    stage: str
    skipped: bool
    """True when its output was already there, made from the same inputs."""
    wall_s: float
    outputs: Mapping[str, Any]


def carry_out(
    run: Run,
    stage: str,
    inputs: Mapping[str, Any],
    body: Callable[[], Mapping[str, Any]],
    *,
    force: bool = False,
) -> StageOutcome:
    """Do a stage unless it is done; `body` writes its files and returns a record of them.

    `inputs` and the record are small JSON values: settings, counts, digests. For a run
    in a bucket, what the stage reads is pulled before, and what it wrote published after.
    Raises StageError, naming what changed, where the stage is done from other
    inputs and `force` is not set.
    """
    status = run.status(stage, inputs)
    if status.state == "current" and not force:
        run.pull(stage)
        recorded = run.manifest(stage) or {}
        return StageOutcome(stage, True, float(recorded["wall_s"]), recorded["outputs"])
    if status.state == "stale" and not force:
        raise StageError(
            f"the inputs of '{stage}' in {run.location} changed ({', '.join(status.changed)}); "
            "use --force to make it again, or another --run"
        )
    start = time.monotonic()
    _pull_what_it_reads(run, stage)
    # An interrupted remake must not look finished: the old manifest goes first.
    run.forget(stage)
    outputs = body()
    wall_s = time.monotonic() - start
    outputs = run.finish(stage, inputs, outputs, wall_s)["outputs"]
    return StageOutcome(stage, False, wall_s, outputs)


def _pull_what_it_reads(run: Run, stage: str) -> None:
    for read in READS.get(stage, ()):
        try:
            run.pull(read)
        except StageError:
            # Damaged files of its own are no reason not to make them again.
            if read != stage:
                raise
