"""Everything random that an adapter sees, keyed by (noise seed, step).

A counter-based generator (Philox) is set to the key anew for every adapter and
step. So neither the number of adapters stacked together, nor the slot, nor a
restart, nor the device changes what an adapter is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Stream(IntEnum):
    """Independent streams of one adapter."""

    INSTANCE = 0
    INSTANCE_ORDER = 1
    PRIOR = 2
    PRIOR_ORDER = 3
    MIXING = 4


@dataclass(frozen=True)
class StepNoise:
    """One adapter's draws for one step, for b samples."""

    timesteps: Indices
    """(b,), uniform in [0, n_timesteps)."""
    noise: Samples
    """(b, C, h, w), standard normal: what the U-Net learns to predict."""
    posterior: Samples
    """(b, C, h, w), standard normal: where in the encoder's posterior the latent lies."""


def generator(noise_seed: int, stream: Stream, step: int) -> np.random.Generator:
    """The generator of one adapter, stream and step."""
    key = np.array([noise_seed, (stream << 48) | step], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def draw(
    noise_seed: int, stream: Stream, step: int, shape: tuple[int, ...], n_timesteps: int
) -> StepNoise:
    """Timesteps and noise of one step; `shape` is (b, C, h, w)."""
    rng = generator(noise_seed, stream, step)
    return StepNoise(
        timesteps=rng.integers(n_timesteps, size=shape[0]),
        noise=rng.standard_normal(shape, dtype=np.float32),
        posterior=rng.standard_normal(shape, dtype=np.float32),
    )


def image_order(noise_seed: int, stream: Stream, n_images: int, n_samples: int) -> Indices:
    """Which image each of the first `n_samples` samples is, (n_samples,).

    Epochs of a shuffled order, each shuffled anew: every image is seen once
    before any is seen twice, whatever the batch size.
    """
    if not n_samples:
        return np.empty(0, np.int64)
    n_epochs = -(-n_samples // n_images)
    epochs = [
        generator(noise_seed, stream, epoch).permutation(n_images) for epoch in range(n_epochs)
    ]
    return np.concatenate(epochs)[:n_samples]
