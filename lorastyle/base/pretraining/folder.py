"""The parts put together, and written as a Stable Diffusion folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from lorastyle.base.identity import BaseIdentity
from lorastyle.base.loading import BaseModel
from lorastyle.base.pretraining.parts import (
    Architecture,
    build_scheduler,
    build_text_encoder,
    build_unet,
)


def assemble(
    architecture: Architecture, vae: AutoencoderKL, tokenizer: CLIPTokenizer, *, seed: int = 0
) -> BaseModel:
    """A base model with a trained autoencoder and untrained U-Net and text encoder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = build_unet(architecture)
        text_encoder = build_text_encoder(architecture, tokenizer)
    identity = BaseIdentity(
        name="untrained",
        sha256="",
        prediction_type=architecture.prediction_type,
        image_size=architecture.image_size,
        latent_channels=architecture.latent_channels,
        cross_attention_dim=architecture.text_width,
    )
    return BaseModel(
        unet=unet, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer,
        scheduler=build_scheduler(architecture), identity=identity,
    )  # fmt: skip


def write_folder(base: BaseModel, directory: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a Stable Diffusion folder: weights as safetensors of ``dtype``, the parts' configs.

    float16 halves the size; the rounding (1e-3 relative) is far below what training leaves open.
    The text encoder, a twentieth of the whole, stays float32: transformers loads a part as it was
    saved and diffusers as float32, so that a pipeline loaded without a type would mix the two.
    """
    import diffusers

    directory.mkdir(parents=True, exist_ok=True)
    for name in ("unet", "vae", "text_encoder"):
        part = copy.deepcopy(getattr(base, name)).to(
            torch.float32 if name == "text_encoder" else dtype
        )
        part.save_pretrained(directory / name, safe_serialization=True)
        _forget_origin(directory / name / "config.json")
    base.tokenizer.save_pretrained(directory / "tokenizer")
    # vocab.json and merges.txt: the form that other programs, and older transformers, read.
    base.tokenizer.backend_tokenizer.model.save(str(directory / "tokenizer"))
    base.scheduler.save_pretrained(directory / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    partial = directory / "model_index.json.partial"
    partial.write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    partial.replace(directory / "model_index.json")


def _forget_origin(config: Path) -> None:
    """Drop the path that a part was loaded from: it is the maker's, and no one else's."""
    values = json.loads(config.read_text("utf-8"))
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
