"""What a training must be told, by attribute.

`TrainingConfig` is one such description. The training core asks for no more than this, so that it
can be carried to a bare GPU machine with torch, diffusers, peft and accelerate alone.
"""

from __future__ import annotations

from typing import Literal, Protocol


class TrainingSettings(Protocol):
    """Fields as in `lorastyle.config.TrainingConfig`."""

    @property
    def rank(self) -> int: ...
    @property
    def alpha(self) -> float: ...
    @property
    def sub_network(self) -> str: ...
    @property
    def n_steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def optimizer(self) -> Literal["adam", "adamw"]: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def prior_weight(self) -> float: ...
    @property
    def prior_batch(self) -> Literal["interleaved", "paired"]: ...
    @property
    def checkpoint_every(self) -> int: ...


RESULT_FIELDS = (
    "rank",
    "alpha",
    "sub_network",
    "n_steps",
    "batch_size",
    "learning_rate",
    "optimizer",
    "weight_decay",
    "max_grad_norm",
    "prior_weight",
    "prior_batch",
)
"""Of these fields, the ones that the trained adapter depends on."""


def samples_a_step(settings: TrainingSettings) -> int:
    """Samples of one adapter in a step: `paired` batches hold as many prior images again."""
    is_paired = settings.prior_weight > 0 and settings.prior_batch == "paired"
    return settings.batch_size * (2 if is_paired else 1)
