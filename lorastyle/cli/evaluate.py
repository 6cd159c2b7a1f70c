"""`lorastyle evaluate`: one stage of a run."""

from __future__ import annotations

from lorastyle.cli.stages import stage_verb

command = stage_verb(
    "evaluate",
    """Measure clustering and retrieval, beside image features.

    Writes evaluation/metrics.json.""",
)
