"""`lorastyle train`: one stage of a run."""

from __future__ import annotations

from lorastyle.cli.stages import stage_verb

command = stage_verb(
    "train",
    """Train the planned adapters, on a Ray cluster or on this machine.

    Adapters that the run has already are not trained again, so an interrupted
    training goes on where it stopped.""",
)
