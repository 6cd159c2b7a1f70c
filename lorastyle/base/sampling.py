"""Images out of a base model, for regularisation sets and for looking at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from numpy.typing import NDArray

from lorastyle.base.loading import BaseModel


def pipeline(base: BaseModel) -> StableDiffusionPipeline:
    """The base model's parts as diffusers' own pipeline, with a DDIM sampler.

    The sampler is made from the training scheduler's config, so it knows the prediction type.
    """
    made = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=DDIMScheduler.from_config(
            base.scheduler.config, clip_sample=False, timestep_spacing="trailing"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


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
    """One image per caption: uint8 (m, H, W, 3).

    Image ``i`` starts from noise keyed by (seed, i), so neighbours and batch size do not matter
    (beyond rounding).
    """
    made = pipeline(base)
    images = []
    for start in range(0, len(captions), batch_size):
        prompts = list(captions[start : start + batch_size])
        generators = [
            torch.Generator().manual_seed(_key(seed, start + i)) for i in range(len(prompts))
        ]
        drawn = made(
            prompts,
            num_inference_steps=n_steps,
            guidance_scale=guidance_scale,
            generator=generators,
            output_type="np",
        ).images
        images.append(np.clip(drawn * 255 + 0.5, 0, 255).astype(np.uint8))
    size = base.identity.image_size
    return np.concatenate(images) if images else np.zeros((0, size, size, 3), np.uint8)


def _key(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)
