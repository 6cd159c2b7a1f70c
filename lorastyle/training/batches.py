"""What a stack of adapters is shown at each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lorastyle.errors import TrainingError
from lorastyle.records import AdapterSpec
from lorastyle.training.ahead import Ahead
from lorastyle.training.noise import Indices, StepNoise, Stream, draw
from lorastyle.training.ordering import schedule
from lorastyle.training.settings import TrainingSettings

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
    weights: Tensor
    """(K, S): what each sample counts in its adapter's loss."""


class Batches:
    """All images of a stack, kept on the device, and the order in which they are seen.

    What an adapter sees of its own images in `paired` batches is what it would see without
    `prior` images: those have streams of their own.
    """

    def __init__(
        self,
        items: Sequence[TrainingItem],
        settings: TrainingSettings,
        prior: EncodedImages | None,
        *,
        n_timesteps: int,
        like: Tensor,
    ) -> None:
        check_items(items, prior)
        self._seeds = [item.spec.noise_seed for item in items]
        is_paired = prior is not None and settings.prior_batch == "paired"
        self._streams = [Stream.INSTANCE, Stream.PRIOR] if is_paired else [Stream.INSTANCE]
        self._n_timesteps, self._like = n_timesteps, like
        sources = [item.images for item in items] + ([] if prior is None else [prior])
        self._mean, self._std, self._text = (
            torch.from_numpy(np.concatenate([getattr(source, name) for source in sources])).to(like)
            for name in ("latents_mean", "latents_std", "text")
        )
        self._shape = (settings.batch_size, *self._mean.shape[1:])
        images, weights = _schedules(items, settings, prior)
        self._images = torch.from_numpy(images).to(like.device)
        self._weights = torch.from_numpy(weights).to(like)
        self._noise: Callable[[int], StepNoise] = Ahead(self._draw) if like.is_cuda else self._draw

    def draw(self, step: int) -> Batch:
        """The samples of one step."""
        drawn, chosen = self._noise(step), self._images[step]
        return Batch(
            latents=torch.addcmul(
                self._mean[chosen], self._std[chosen], self._on_device(drawn.posterior)
            ),
            noise=self._on_device(drawn.noise),
            timesteps=torch.from_numpy(drawn.timesteps).to(self._like.device),
            text=self._text[chosen],
            weights=self._weights[step],
        )

    def _draw(self, step: int) -> StepNoise:
        """The draws of all adapters, adapter-major."""
        draws = [
            draw(seed, stream, step, self._shape, self._n_timesteps)
            for seed in self._seeds
            for stream in self._streams
        ]
        return StepNoise(
            *(
                np.concatenate([getattr(each, field.name) for each in draws])
                for field in fields(StepNoise)
            )
        )

    def _on_device(self, array: Array) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._like.is_cuda:
            # From pageable memory a copy would wait for all that the GPU has to do.
            tensor = tensor.pin_memory()
        return tensor.to(self._like, non_blocking=True)


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


def _schedules(
    items: Sequence[TrainingItem], settings: TrainingSettings, prior: EncodedImages | None
) -> tuple[Indices, npt.NDArray[np.float64]]:
    """Which of all the stack's images each sample is, (n_steps, K * S), and weights.

    Weights are (n_steps, K, S).
    """
    n_prior = 0 if prior is None else len(prior.latents_mean)
    counts = [len(item.latents_mean) for item in items]
    starts = np.cumsum([0, *counts])
    plans = [
        schedule(item.spec.noise_seed, count, n_prior, settings)
        for item, count in zip(items, counts, strict=True)
    ]
    images = [
        np.where(plan.images < count, start + plan.images, starts[-1] + plan.images - count)
        for plan, start, count in zip(plans, starts, counts, strict=False)
    ]
    return np.concatenate(images, axis=1), np.stack([plan.weights for plan in plans], axis=1)
