"""The denoising loss, adapter by adapter."""

from __future__ import annotations

from torch import Tensor


def adapter_losses(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Each adapter's own loss, (K,): sum these, for a mean over K would shrink gradients.

    A sample's loss is its mean squared error, an adapter's the sum of its samples' times their
    `weights` (K, S): what regularisation images count is in them (`batches.sample_weights`).
    Shapes of `prediction` and `target`: (K * S, C, h, w), adapter-major.
    """
    squared = (prediction.to(target.dtype) - target).square()
    samples = squared.reshape(*weights.shape, -1).mean(dim=2)
    return (samples * weights).sum(dim=1)
