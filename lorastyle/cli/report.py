"""`lorastyle report`: one stage of a run."""

from __future__ import annotations

from lorastyle.cli.stages import stage_verb

command = stage_verb(
    "report",
    """Write the figures and the offline page.

    Writes report/index.html, and every figure as PNG and SVG beside it.""",
)
