"""The experiment of a run whose adapters all come from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from lorastyle.config import Experiment, apply_overrides, parse_experiment


def experiment_for_adapters(name: str, base: str, overrides: Sequence[str] = ()) -> Experiment:
    """No images, no training, updates instead of factors; overrides as on the command line."""
    values = {
        "name": name or "adapters",
        "base": base,
        "corpus": {"source": "adapters"},
        # Where nobody says which adapters are to calibrate, all are fitted on.
        "protocol": {"calibration": 0},
        # Who knows which of them share an initial lora_A.
        "embedding": {"representations": ["delta", "delta-aligned"]},
        "evaluation": {"features": []},
    }
    return parse_experiment(apply_overrides(values, overrides), "the settings")
