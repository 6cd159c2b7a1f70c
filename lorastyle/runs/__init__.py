"""A run: where it lies, what its stages left, and how that reaches another machine."""

from lorastyle.runs.location import location
from lorastyle.runs.paths import STAGES
from lorastyle.runs.run import Run, StageStatus
from lorastyle.runs.stages import StageOutcome, carry_out
from lorastyle.runs.writing import write_array, write_atomically, write_json, write_parquet

__all__ = [
    "STAGES",
    "Run",
    "StageOutcome",
    "StageStatus",
    "carry_out",
    "location",
    "write_array",
    "write_atomically",
    "write_json",
    "write_parquet",
]
