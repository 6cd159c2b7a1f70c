"""The denoising loss, adapter by adapter, with the prior-preservation term."""

from __future__ import annotations

import torch
from torch import Tensor


def adapter_losses(
    prediction: Tensor, target: Tensor, n_adapters: int, prior_weight: float = 0.0
) -> Tensor:
    """Each adapter's own loss, (K,): sum these, for a mean over K would shrink gradients.

    Shapes: (K * S, C, h, w), adapter-major. With `prior_weight` above 0 the
    second half of each adapter's samples are regularisation images, as in
    DreamBooth (Ruiz et al. 2023): mean(instance) + weight * mean(prior).
    """
    squared = (prediction.to(target.dtype) - target).square()
    samples = squared.reshape(n_adapters, -1, squared[0].numel()).mean(dim=2)
    if prior_weight == 0:
        return samples.mean(dim=1)
    instance, prior = samples.chunk(2, dim=1)
    return torch.add(instance.mean(dim=1), prior.mean(dim=1), alpha=prior_weight)
