"""Adam for a stack of adapters, each clipped by itself.

Adam works on each number alone, so one optimiser over the (K, d) matrix does to
every row what an optimiser of its own would. Only clipping looks at a whole
adapter, and an adapter with a huge loss must not shrink its neighbours' steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lorastyle.training.settings import TrainingSettings

CLIP_EPSILON = 1e-6
"""As in torch.nn.utils.clip_grad_norm_."""


def make_optimizer(weights: nn.Parameter, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Adam (decay added to the gradient) or AdamW (decay apart from it) over all rows.

    Its state exists from the start, so that a checkpoint can be loaded into it.
    """
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind(
        [weights], lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    optimizer.state[weights] = {
        "step": torch.zeros((), device=weights.device),
        "exp_avg": torch.zeros_like(weights),
        "exp_avg_sq": torch.zeros_like(weights),
    }
    return optimizer


def clip_each(gradients: Tensor, max_norm: float) -> None:
    """Scale every row of (K, d) in place to at most `max_norm`."""
    norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    gradients.mul_((max_norm / (norms + CLIP_EPSILON)).clamp_(max=1.0))
