"""`lorastyle embed`: one stage of a run."""

from __future__ import annotations

from lorastyle.cli.stages import stage_verb

command = stage_verb(
    "embed",
    """Compute the Gram matrices of the trained adapters.

    One pass over the store gives every sub-network and representation.""",
)
