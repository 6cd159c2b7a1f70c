"""Images out of a base model: the one loop that all sampling goes through.

Adapters are put on the U-Net from outside (`lorastyle.generation`). The loop is ours because
diffusers' pipeline knows neither K adapters side by side nor a U-Net of lower precision than its
latents; tests hold it against that pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor

from lorastyle.base.latents import encode_captions
from lorastyle.base.loading import BaseModel
from lorastyle.base.sampling_settings import Sampling
from lorastyle.errors import ConfigError

DECODED_TOGETHER = 4
"""Latents that the autoencoder decodes at once: at 512 pixels its decoder needs more memory an
image than the U-Net."""


def sampler(base: BaseModel) -> DDIMScheduler:
    """DDIM (Song et al. 2021) with the base model's noise schedule and prediction type.

    Steps are spaced from the last timestep down ("trailing", Lin et al. 2024): the first step
    then sees the pure noise that it gets.
    """
    scheduler: DDIMScheduler = DDIMScheduler.from_config(
        base.scheduler.config, clip_sample=False, timestep_spacing="trailing"
    )
    return scheduler


@torch.no_grad()
def sample(
    base: BaseModel,
    captions: Sequence[str],
    *,
    seed: int,
    n_steps: int = 30,
    guidance_scale: float = 3.0,
    batch_size: int = 16,
) -> NDArray[np.uint8]:
    """One image per caption, from the base model as it is: uint8 (m, H, W, 3).

    Image ``i`` starts from noise keyed by (seed, i), so neighbours and batch size do not matter
    (beyond rounding).
    """
    sampling = Sampling(seed, n_steps, guidance_scale)
    images = []
    for start in range(0, len(captions), batch_size):
        prompts = captions[start : start + batch_size]
        numbers = range(start, start + len(prompts))
        (drawn,) = draw(base, [prompts], [numbers], sampling)
        images.append(drawn)
    size = base.identity.image_size
    return np.concatenate(images) if images else np.zeros((0, size, size, 3), np.uint8)


@torch.no_grad()
def draw(
    base: BaseModel,
    prompts: Sequence[Sequence[str]],
    numbers: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    on_step: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """Images of K groups of m prompts in one batch: uint8 (K, m, H, W, 3).

    Image number `i` of any group starts from noise keyed by (seed, i). A group's samples lie side
    by side in the U-Net's batch, so that each can have an adapter of its own. `on_step` is told
    how many images went a step further. What is not finite becomes black.
    """
    groups = (len(prompts), len(prompts[0]))
    flat = [prompt for each in prompts for prompt in each]
    texts = torch.from_numpy(encode_captions(base, [sampling.negative_prompt, *flat]))
    text = texts[1:].view(*groups, *texts.shape[1:])
    noise = torch.stack([initial_noise(base, sampling.seed, each) for each in numbers])
    latents = _denoised(base, noise, text, texts[0], sampling, on_step)
    images = decode_latents(base, latents.flatten(0, 1))
    return images.reshape(*groups, *images.shape[1:])


def initial_noise(base: BaseModel, seed: int, numbers: Sequence[int]) -> Tensor:
    """Noise of images of these numbers, float32 (m, C, h, w), always drawn on the CPU."""
    side = int(base.unet.config.sample_size)
    shape = (int(base.unet.config.in_channels), side, side)
    generators = (torch.Generator().manual_seed(_key(seed, number)) for number in numbers)
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


@torch.no_grad()
def decode_latents(base: BaseModel, latents: Tensor) -> NDArray[np.uint8]:
    """Images (n, H, W, 3) of latents (n, C, h, w) as a sampler leaves them."""
    scaled = (latents / base.vae.config.scaling_factor).to(base.vae.device, base.vae.dtype)
    images = []
    for some in scaled.split(DECODED_TOGETHER):
        pixels = base.vae.decode(some, return_dict=False)[0].float()
        unit = (pixels * 0.5 + 0.5).nan_to_num(nan=0.0).clamp(0, 1)
        images.append((unit * 255 + 0.5).permute(0, 2, 3, 1).to("cpu", torch.uint8).numpy())
    return np.concatenate(images)


def _denoised(
    base: BaseModel,
    noise: Tensor,
    text: Tensor,
    unconditional: Tensor,
    sampling: Sampling,
    on_step: Callable[[int], None] | None,
) -> Tensor:
    """Latents (K, m, C, h, w), float32, from noise of that shape and text (K, m, T, D)."""
    unet, scheduler = base.unet, sampler(base)
    if sampling.n_steps > (n_timesteps := int(scheduler.config.num_train_timesteps)):
        raise ConfigError(
            f"{sampling.n_steps} sampling steps are more than the base model's {n_timesteps} "
            "timesteps; take fewer"
        )
    scheduler.set_timesteps(sampling.n_steps, device=unet.device)
    if sampling.is_guided:
        text = torch.stack([unconditional.expand_as(text), text], dim=1)
    text = text.flatten(0, -3).to(unet.device, unet.dtype)
    latents: Tensor = (noise * scheduler.init_noise_sigma).to(unet.device)
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, timestep)
        if sampling.is_guided:
            seen = torch.stack([seen, seen], dim=1)
        output = unet(seen.flatten(0, -4).to(unet.dtype), timestep, text, return_dict=False)[0]
        predicted = _guided(output.float().reshape(seen.shape), sampling)
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        if on_step is not None:
            on_step(latents.shape[0] * latents.shape[1])
    return latents


def _guided(output: Tensor, sampling: Sampling) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022) of (K, 2, m, ...): unconditional first."""
    if not sampling.is_guided:
        return output
    without, conditional = output.unbind(1)
    return without + sampling.guidance_scale * (conditional - without)


def _key(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)
