"""`lorastyle plan`: one stage of a run."""

from __future__ import annotations

from lorastyle.cli.stages import stage_verb

command = stage_verb(
    "plan",
    """Read the images, split them and plan every adapter.

    Writes the catalogue of images and one line for each adapter to be trained.""",
)
