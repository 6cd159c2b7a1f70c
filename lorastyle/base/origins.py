"""Where each tensor of a diffusers part lies in a checkpoint of the original layout.

diffusers' own converters say it: they are run on stand-ins that record how a tensor is taken
apart, so that nothing is read, and one tensor can be read alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from lorastyle.base.checkpoint import TEXT, VAE, Checkpoint
from lorastyle.errors import BaseModelError

_CLIP, _OPEN_CLIP = f"{TEXT}transformer.", f"{TEXT}model."

_NOT_NEEDED = (
    # Buffers that are computed, and OpenCLIP's comparison with images.
    f"{_CLIP}text_model.embeddings.position_ids",
    f"{_CLIP}embeddings.position_ids",
    f"{_OPEN_CLIP}attn_mask",
    f"{_OPEN_CLIP}logit_scale",
    f"{_OPEN_CLIP}text_projection",
    f"{TEXT}logit_scale",
    # The autoencoder's adversary in training.
    f"{VAE}loss.",
)


@dataclass(frozen=True)
class Origin:
    """A tensor of the file, or what is cut out of one; stands in for it in a converter."""

    key: str
    shape: tuple[int, ...]
    index: Any = ...

    def __getitem__(self, index: Any) -> Origin:
        return replace(self, index=index)

    def clone(self) -> Origin:
        return self

    def detach(self) -> Origin:
        return self

    @property
    def ndim(self) -> int:
        return len(self.shape)


Origins = dict[str, Origin]


def find_origins(part: str, checkpoint: Checkpoint, config: Mapping[str, Any]) -> Origins:
    """By the names that diffusers and transformers publish (the text encoder's with `text_model.`).

    `config` is the part's; of the text encoder it is not needed. Raises BaseModelError for a
    tensor of the part that has no place in it.
    """
    found = {
        key: Origin(key, checkpoint.shapes[key])
        for key in checkpoint.keys_of(part)
        if not key.startswith(_NOT_NEEDED)
    }
    try:
        origins = _convert(part, found, config)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise BaseModelError(
            f"the {part} in '{checkpoint.path}' is not laid out as its config says ({error!r})"
        ) from error
    left = found.keys() - {origin.key for origin in origins.values()} - _dropped()
    if left:
        raise BaseModelError(
            f"{len(left)} of {len(found)} tensors of the {part} in '{checkpoint.path}' have no "
            f"place in it, first '{min(left)}'; it is made for another kind of model"
        )
    return origins


def _dropped() -> set[str]:
    """What diffusers' converter leaves out itself: the last layer of OpenCLIP ViT-H."""
    from diffusers.loaders.single_file_utils import SD_2_TEXT_ENCODER_KEYS_TO_IGNORE

    return set(SD_2_TEXT_ENCODER_KEYS_TO_IGNORE)


def _convert(part: str, found: Mapping[str, Origin], config: Mapping[str, Any]) -> Origins:
    # Here: half a second of imports, which who only asks for an identity need not wait for.
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    if part == "unet":
        return dict(convert_ldm_unet_checkpoint(dict(found), {"layers_per_block": 2, **config}))
    if part == "vae":
        return dict(convert_ldm_vae_checkpoint(dict(found), config))
    return _convert_text_encoder(found)


def _convert_text_encoder(found: Mapping[str, Origin]) -> Origins:
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_open_clip_checkpoint,
    )

    if f"{_OPEN_CLIP}ln_final.weight" in found:
        (width,) = found[f"{_OPEN_CLIP}ln_final.weight"].shape
        shape_only = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
        return dict(convert_open_clip_checkpoint(shape_only, dict(found), prefix=_OPEN_CLIP))
    converted = convert_ldm_clip_checkpoint(dict(found))
    # Some merged checkpoints have lost the level `text_model`.
    return {f"text_model.{key.removeprefix('text_model.')}": it for key, it in converted.items()}
