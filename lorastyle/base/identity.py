"""Which base model a name means, read from its files alone.

No torch here: a finished run compares the base model with the one it was made
with, and must say that there is nothing to do within a second or two.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorastyle.base.source import Source
from lorastyle.errors import BaseModelError
from lorastyle.file_contents import sha256_of_all


@dataclass(frozen=True)
class BaseIdentity:
    """Which base model an adapter belongs to."""

    name: str
    sha256: str
    """Of a folder: the names and bytes of the files that are loaded, in the order of their paths.
    Of a single file: its bytes, as `sha256sum` and Civitai have it."""
    prediction_type: str
    image_size: int
    """Pixels of a side, as the model was trained."""
    latent_channels: int
    cross_attention_dim: int
    revision: str | None = None
    """The commit of a model from the hub."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; without the revision where there is none, as before it was recorded."""
        values = asdict(self)
        if self.revision is None:
            del values["revision"]
        return values


def identity_of(name: str | Path, source: Source) -> BaseIdentity:
    """The identity of what a name means. Raises BaseModelError for a model of another kind."""
    unet, vae = source.config("unet"), source.config("vae")
    try:
        _refuse_other_kinds(name, unet, vae)
        return BaseIdentity(
            name=str(name),
            sha256=sha256_of_all(source.files),
            prediction_type=source.prediction_type,
            image_size=int(unet["sample_size"]) * pixels_of_latent(vae),
            latent_channels=int(vae["latent_channels"]),
            cross_attention_dim=int(unet["cross_attention_dim"]),
            revision=source.revision,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BaseModelError(
            f"the configs of base model '{name}' do not describe it: {error!r}"
        ) from error


def pixels_of_latent(vae: dict[str, Any]) -> int:
    """Pixels of a side that the autoencoder makes one latent of, by its config."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def _refuse_other_kinds(name: str | Path, unet: dict[str, Any], vae: dict[str, Any]) -> None:
    if unet.get("addition_embed_type") is not None:
        raise BaseModelError(
            f"base model '{name}' is conditioned like SDXL; base models are Stable Diffusion 1.x "
            "and 2.x"
        )
    if unet["in_channels"] != vae["latent_channels"]:
        raise BaseModelError(
            f"the U-Net of base model '{name}' takes {unet['in_channels']} channels, and latents "
            f"have {vae['latent_channels']}: it is made for inpainting or the like, and only "
            "text-to-image models can be a base model"
        )
