"""A base model's U-Net described without its weights: for planning, and for adapters alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorastyle.base.checkpoint import names_a_file, open_checkpoint
from lorastyle.base.companion import local_configs
from lorastyle.base.folders import CONFIGS, read_config
from lorastyle.base.identity import pixels_of_latent
from lorastyle.base.known import KNOWN, published_unet
from lorastyle.base.source import local_path
from lorastyle.errors import BaseModelError
from lorastyle.hub import fetch_snapshot, looks_like_hub_id, split_revision

_USUAL_PIXELS = 8
"""Pixels of a side that one latent stands for, in all of Stable Diffusion."""


@dataclass(frozen=True)
class UNetDescription:
    """A U-Net's config, as `UNet2DConditionModel.from_config` takes it."""

    values: dict[str, Any]
    source: str
    """Where it is from, in words."""
    vae: dict[str, Any] | None = None
    """The autoencoder's config, where it lies beside."""

    @property
    def image_size(self) -> int:
        """Pixels of a side."""
        pixels = pixels_of_latent(self.vae) if self.vae else _USUAL_PIXELS
        return int(self.values["sample_size"]) * pixels


def unet_config(base: str) -> UNetDescription:
    """The U-Net's config of whatever a base model's name means; no weights are read.

    Of a model of Stable Diffusion 1.x or 2.x that is not on this machine, what is published of
    it; of any other on the hub its config is fetched. Raises BaseModelError where there is none.
    """
    path = local_path(base)
    if path.is_dir():
        return _of_folder(path, f"{path}/{CONFIGS['unet']}")
    if names_a_file(base):
        return _of_file(path)
    repository, _ = split_revision(base)
    if repository in KNOWN:
        known = KNOWN[repository]
        values = published_unet(known.family, known.image_size)
        return UNetDescription(values, f"what is published of {repository}")
    if not looks_like_hub_id(base):
        raise BaseModelError(
            f"the base model '{base}' has no readable {CONFIGS['unet']}; name 'miniature', a "
            "diffusers folder, a .safetensors file or a hub id"
        )
    snapshot = fetch_snapshot(base, lambda files: [CONFIGS["unet"], CONFIGS["vae"]])
    return _of_folder(snapshot, f"{CONFIGS['unet']} of {base} on the hub")


def image_size_of(base: str) -> int:
    """Pixels of a side of the images that a base model is made for; no weights are read.

    >>> image_size_of("miniature"), image_size_of("CompVis/stable-diffusion-v1-4")
    (64, 512)
    """
    description = unet_config(base)
    try:
        return description.image_size
    except (KeyError, TypeError, ValueError) as error:
        raise BaseModelError(
            f"{description.source} does not tell the size of images: {error!r}"
        ) from error


def _of_folder(folder: Path, source: str) -> UNetDescription:
    has_vae = (folder / CONFIGS["vae"]).is_file()
    vae = read_config(folder, "vae") if has_vae else None
    return UNetDescription(read_config(folder, "unet"), source, vae)


def _of_file(path: Path) -> UNetDescription:
    """By its configs where they are here, or else what is published of its family."""
    checkpoint = open_checkpoint(path)
    configs = local_configs(checkpoint)
    if configs is not None:
        return _of_folder(configs, f"{configs}/{CONFIGS['unet']}, for '{path}'")
    if checkpoint.family is None:
        raise BaseModelError(
            f"the U-Net in '{path}' reads text embeddings {checkpoint.context_width} wide: of no "
            f"known base model; put its configs and tokenizer into '{checkpoint.configs_folder}'"
        )
    is_large = checkpoint.family == "sd2" and checkpoint.said_prediction_type == "v_prediction"
    values = published_unet(checkpoint.family, 768 if is_large else 512)
    return UNetDescription(values, f"what is published of {checkpoint.family}, as '{path}' is")
