"""How images are sampled. No torch here: what is made already is told by this alone."""

from __future__ import annotations

from dataclasses import dataclass

from lorastyle.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """Everything that images depend on besides the model, its adapter and the prompts.

    Raises ConfigError for a value out of range.
    """

    seed: int = 0
    n_steps: int = 30
    guidance_scale: float = 7.5
    """1 and below is without guidance, and half the work."""
    negative_prompt: str = ""
    """Stands in the unconditional half."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"the seed is {self.seed}; it must be 0 or above")
        if self.n_steps < 1:
            raise ConfigError(f"{self.n_steps} sampling steps make no image; take 1 or more")
        if not 0 <= self.guidance_scale < float("inf"):
            raise ConfigError(
                f"the guidance scale is {self.guidance_scale}; it must be a number of 0 or above"
            )

    @property
    def is_guided(self) -> bool:
        """Whether the U-Net sees an unconditional half too."""
        return self.guidance_scale > 1
