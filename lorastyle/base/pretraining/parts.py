"""The miniature's parts, untrained: ordinary diffusers and transformers classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

PredictionType: TypeAlias = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class Architecture:
    """Sizes of the miniature's parts; the defaults are the shipped one's."""

    image_size: int = 64
    """Pixels of a side; the autoencoder halves it ``len(vae_channels) - 1`` times."""
    latent_channels: int = 16
    """Well below the U-Net's first width: 48 into 32 learned nothing."""
    vae_channels: tuple[int, ...] = (16, 32, 64, 64)
    unet_channels: tuple[int, ...] = (48, 96)
    n_heads: int = 4
    text_width: int = 64
    """Hidden size of the text encoder, hence the cross-attention dimension."""
    text_layers: int = 2
    n_tokens: int = 20
    """Length of every caption with its markers; cross-attention pays for each."""
    norm_groups: int = 8
    prediction_type: PredictionType = "v_prediction"


def build_vae(architecture: Architecture) -> AutoencoderKL:
    """An untrained autoencoder: images in [-1, 1] to latents of ``latent_channels``."""
    channels = architecture.vae_channels
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=architecture.latent_channels,
        norm_num_groups=architecture.norm_groups,
        sample_size=architecture.image_size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def build_unet(architecture: Architecture) -> UNet2DConditionModel:
    """An untrained U-Net of Stable Diffusion 1.5's block kinds: all but the last attend to text."""
    channels = architecture.unet_channels
    n_attending = len(channels) - 1
    factor = 2 ** (len(architecture.vae_channels) - 1)
    return UNet2DConditionModel(
        sample_size=architecture.image_size // factor,
        in_channels=architecture.latent_channels,
        out_channels=architecture.latent_channels,
        block_out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * n_attending + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * n_attending,
        layers_per_block=1,
        cross_attention_dim=architecture.text_width,
        attention_head_dim=architecture.n_heads,
        norm_num_groups=architecture.norm_groups,
    )


def build_scheduler(architecture: Architecture) -> DDPMScheduler:
    """Stable Diffusion's noise schedule with the architecture's prediction type."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type=architecture.prediction_type,
    )


def build_text_encoder(architecture: Architecture, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained CLIP text encoder for that tokenizer."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=architecture.text_width,
        intermediate_size=2 * architecture.text_width,
        projection_dim=architecture.text_width,
        num_hidden_layers=architecture.text_layers,
        num_attention_heads=architecture.n_heads,
        max_position_embeddings=architecture.n_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)
