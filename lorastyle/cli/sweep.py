"""`lorastyle sweep`: one stage of a run."""

from __future__ import annotations

from lorastyle.cli.stages import stage_verb

command = stage_verb(
    "sweep",
    """Choose PC counts, representation and sub-network on validation.

    The test adapters are not looked at.""",
)
