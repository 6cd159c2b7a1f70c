"""What of an image and a caption the frozen base model sees: computed once, kept for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lorastyle.base.loading import BaseModel
from lorastyle.errors import CorpusError

FloatArray = NDArray[np.float32]


@torch.no_grad()
def encode_images(
    base: BaseModel, images: NDArray[np.uint8], *, batch_size: int = 16
) -> tuple[FloatArray, FloatArray]:
    """Mean and deviation of the latent posterior, times the autoencoder's scaling factor.

    A training draws ``mean + std * noise`` anew at every step. Images are uint8 (m, H, W, 3);
    both results are float32 (m, C, h, w). Raises CorpusError for another shape or type.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise CorpusError(
            f"images must be uint8 (m, H, W, 3), got {images.dtype} {tuple(images.shape)}"
        )
    scale = float(base.vae.config.scaling_factor)
    means, stds = [], []
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size]))
        pixels = batch.permute(0, 3, 1, 2).to(base.vae.device, base.vae.dtype) / 127.5 - 1
        posterior = base.vae.encode(pixels).latent_dist
        means.append((scale * posterior.mean).float().cpu().numpy())
        stds.append((scale * posterior.std).float().cpu().numpy())
    if not means:
        raise CorpusError("no images to encode")
    return np.concatenate(means), np.concatenate(stds)


@torch.no_grad()
def encode_captions(
    base: BaseModel, captions: Sequence[str], *, batch_size: int = 64
) -> FloatArray:
    """The text encoder's last hidden states, float32 (m, T, D); long captions are cut at T tokens.

    Each distinct caption is encoded once.
    """
    if not captions:
        raise CorpusError("no captions to encode")
    distinct = list(dict.fromkeys(captions))
    encoded = []
    for start in range(0, len(distinct), batch_size):
        tokens = base.tokenizer(
            distinct[start : start + batch_size],
            padding="max_length",
            truncation=True,
            max_length=base.tokenizer.model_max_length,
            return_tensors="pt",
        )
        hidden = base.text_encoder(tokens.input_ids.to(base.text_encoder.device))[0]
        encoded.append(hidden.float().cpu().numpy())
    table: FloatArray = np.concatenate(encoded)
    row = {caption: i for i, caption in enumerate(distinct)}
    return table[[row[caption] for caption in captions]]
