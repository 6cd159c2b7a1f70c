"""What a stack of adapters is shown at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lorastyle.config import TrainingConfig
from lorastyle.errors import TrainingError
from lorastyle.records import AdapterSpec
from lorastyle.training.noise import Indices, StepNoise, Stream, draw, image_order

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EncodedImages:
    """m images and captions as the frozen encoders see them; latents in the U-Net's units."""

    latents_mean: Array
    """(m, C, h, w), mean of the encoder's posterior."""
    latents_std: Array
    """(m, C, h, w), its standard deviation; zero for an encoder without one."""
    text: Array
    """(m, T, D), embedding of each image's caption."""


@dataclass(frozen=True)
class TrainingItem:
    """An adapter to be trained, and its m images as in `EncodedImages`."""

    spec: AdapterSpec
    latents_mean: Array
    latents_std: Array
    text: Array

    @property
    def images(self) -> EncodedImages:
        return EncodedImages(self.latents_mean, self.latents_std, self.text)


@dataclass(frozen=True)
class Batch:
    """The K * S samples of one step, adapter-major, on the device of the weights."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    text: Tensor


class Batches:
    """All images of a stack, kept on the device, and the order in which they are seen.

    With `prior` images, an adapter's S = 2b samples are b of its own, then b of
    those; they have streams of their own, so its own samples stay what they were.
    """

    def __init__(
        self,
        items: Sequence[TrainingItem],
        settings: TrainingConfig,
        prior: EncodedImages | None,
        *,
        n_timesteps: int,
        like: Tensor,
    ) -> None:
        check_items(items, prior)
        self._seeds = [item.spec.noise_seed for item in items]
        self._streams = [Stream.INSTANCE] if prior is None else [Stream.INSTANCE, Stream.PRIOR]
        self._n_timesteps, self._like = n_timesteps, like
        sources = [item.images for item in items] + ([] if prior is None else [prior])
        self._mean, self._std, self._text = (
            torch.from_numpy(np.concatenate([getattr(source, name) for source in sources])).to(like)
            for name in ("latents_mean", "latents_std", "text")
        )
        self._shape = (settings.batch_size, *self._mean.shape[1:])
        self._order = torch.from_numpy(_order(items, settings, prior)).to(like.device)

    def draw(self, step: int) -> Batch:
        """The samples of one step."""
        draws = [
            draw(seed, stream, step, self._shape, self._n_timesteps)
            for seed in self._seeds
            for stream in self._streams
        ]
        chosen = self._order[step]
        posterior = self._gather(draws, "posterior")
        return Batch(
            latents=torch.addcmul(self._mean[chosen], self._std[chosen], posterior.to(self._like)),
            noise=self._gather(draws, "noise").to(self._like),
            timesteps=self._gather(draws, "timesteps"),
            text=self._text[chosen],
        )

    def _gather(self, draws: Sequence[StepNoise], name: str) -> Tensor:
        together = np.concatenate([getattr(each, name) for each in draws])
        return torch.from_numpy(together).to(self._like.device)


def check_items(items: Sequence[TrainingItem], prior: EncodedImages | None = None) -> None:
    """Raise TrainingError unless all items, and the prior, can share one batch."""
    if not items:
        raise TrainingError("0 adapters to train; give train_stack at least one item")
    named = [(f"adapter {item.spec.adapter_id!r}", item.images) for item in items]
    if prior is not None:
        named.append(("the prior", prior))
    expected = _sample_shapes(named[0][1])
    for name, images in named:
        counts = {len(images.latents_mean), len(images.latents_std), len(images.text)}
        if counts == {0} or len(counts) != 1:
            raise TrainingError(
                f"{name} has {len(images.latents_mean)} latents, {len(images.latents_std)} "
                f"deviations and {len(images.text)} texts; give one of each for every image"
            )
        if _sample_shapes(images) != expected:
            raise TrainingError(
                f"{name} has latents and text of shapes {_sample_shapes(images)}, "
                f"{named[0][0]} has {expected}; train them in separate stacks"
            )


def _sample_shapes(images: EncodedImages) -> tuple[tuple[int, ...], ...]:
    mean, std, text = images.latents_mean, images.latents_std, images.text
    return (mean.shape[1:], text.shape[1:]) if mean.shape == std.shape else (mean.shape, std.shape)


def _order(
    items: Sequence[TrainingItem], settings: TrainingConfig, prior: EncodedImages | None
) -> Indices:
    """Which image of all the stack's each sample is, (n_steps, K * S)."""
    n_steps, batch_size = settings.n_steps, settings.batch_size
    n_samples = n_steps * batch_size
    counts = [len(item.latents_mean) for item in items]
    starts = np.cumsum([0, *counts])
    columns = []
    for item, start, count in zip(items, starts, counts, strict=False):
        seed = item.spec.noise_seed
        own = start + image_order(seed, Stream.INSTANCE_ORDER, count, n_samples)
        columns.append(own.reshape(n_steps, batch_size))
        if prior is not None:
            n_prior = len(prior.latents_mean)
            other = starts[-1] + image_order(seed, Stream.PRIOR_ORDER, n_prior, n_samples)
            columns.append(other.reshape(n_steps, batch_size))
    return np.concatenate(columns, axis=1)
