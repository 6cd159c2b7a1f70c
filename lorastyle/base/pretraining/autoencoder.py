"""The autoencoder: trained first, then its latents brought to unit spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from lorastyle.base.pretraining.optimisation import (
    ADAM_SHARE,
    OnStep,
    Schedule,
    descend,
    draws,
    maybe_save,
    optimisers,
    resume,
)


def train_vae(
    vae: AutoencoderKL,
    images: NDArray[np.uint8],
    schedule: Schedule,
    *,
    crop: int = 32,
    state_file: Path | None = None,
    on_step: OnStep | None = None,
    kl_weight: float = 1e-4,
) -> None:
    """Train the autoencoder in place on images (m, H, W, 3).

    Three quarters of the steps see a random ``crop`` (a quarter of the work, and steps are what
    it lacks), the rest whole images; half are mirrored. The loss is squared plus some absolute
    error of pixels in [-1, 1], and a weak pull of the posterior to a unit normal.
    ``schedule.learning_rate`` is Muon's; what is no matrix gets AdamW at a share of it.
    """
    # Posteriors start narrow: with unit noise on every latent the first steps learn nothing.
    start_logvar = -4.0
    muon, adam = optimisers(vae, momentum=0.9)
    state = {"vae": vae, "muon": muon, "adam": adam}
    start = resume(state_file, state)
    if start == 0:
        with torch.no_grad():
            vae.quant_conv.bias[vae.config.latent_channels :] += start_logvar
    n_cropped = 3 * schedule.n_steps // 4
    vae.train()
    for step in range(start, schedule.n_steps):
        rng, noise_source = draws(schedule.seed, step)
        batch = images[rng.integers(len(images), size=schedule.batch_size)]
        if step < n_cropped and crop < batch.shape[1]:
            top, left = 8 * rng.integers(0, (batch.shape[1] - crop) // 8 + 1, size=2)
            batch = batch[:, top : top + crop, left : left + crop]
        pixels = _pixels(batch)
        if rng.random() < 0.5:
            pixels = pixels.flip(-1)
        posterior = vae.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=noise_source)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        error = decoded - pixels
        kl = posterior.kl().mean() / noise[0].numel()
        loss = error.square().mean() + 0.2 * error.abs().mean() + kl_weight * kl
        rate = schedule.rate(step)
        descend(loss, {muon: rate, adam: ADAM_SHARE * rate}, vae.parameters())
        if on_step is not None:
            on_step(step + 1, loss.item())
        maybe_save(state_file, state, step + 1, schedule)
    vae.eval()


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, images: NDArray[np.uint8]) -> None:
    """Give every latent channel zero mean and unit deviation over these images, in place.

    The shift and scale are folded into the two 1 x 1 convolutions around the latent, because
    Stable Diffusion's config has room for one factor only (which stays 1).
    """
    encoded = [vae.encode(_pixels(images[i : i + 32])).latent_dist.mean for i in
               range(0, len(images), 32)]  # fmt: skip
    latents = torch.cat(encoded)
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    n_channels = len(mean)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:n_channels] /= std[:, None, None, None]
    into.bias[:n_channels] = (into.bias[:n_channels] - mean) / std
    into.bias[n_channels:] -= 2 * std.log()
    out.bias += (out.weight[:, :, 0, 0] * mean).sum(1)
    out.weight *= std[None, :, None, None]


def _pixels(images: NDArray[np.uint8]) -> Tensor:
    """Images (m, H, W, 3) uint8 to (m, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
