"""What the U-Net is asked to predict, by the kind of base model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lorastyle.errors import BaseModelError


def training_target(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the U-Net should predict, by the scheduler's `prediction_type`."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        velocity: Tensor = scheduler.get_velocity(latents, noise, timesteps)
        return velocity
    raise BaseModelError(
        f"the base model predicts {kind!r}; training knows 'epsilon' and 'v_prediction'"
    )
