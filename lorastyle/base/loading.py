"""The frozen base model: any Stable Diffusion folder or hub id, and the miniature that is shipped.

All come through one door, component by component, from safetensors only; no code that lies in a
model repository is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from lorastyle.base.identity import (
    PARTS_WITH_WEIGHTS,
    BaseIdentity,
    folder_of,
    read_identity,
)
from lorastyle.errors import BaseModelError

_COMPONENTS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "tokenizer": CLIPTokenizer,
    "scheduler": DDPMScheduler,
}


@dataclass
class BaseModel:
    """A frozen latent diffusion model in parts, and what it is."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDPMScheduler
    identity: BaseIdentity


def load_base(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> BaseModel:
    """Load and freeze a base model.

    ``name`` is "miniature", a folder in the diffusers layout, or a hub id. Parts are in
    evaluation mode and need no gradients. Raises BaseModelError, naming what is missing.
    """
    source = folder_of(name)
    if source.is_dir():
        _check_folder(source)
    elif not _looks_like_hub_id(str(name)):
        raise BaseModelError(
            f"base model '{name}' is neither 'miniature', nor a folder, nor a hub id 'owner/name'"
        )
    where = str(source) if source.is_dir() else str(name)
    parts = {part: _load_part(kind, where, part, dtype) for part, kind in _COMPONENTS.items()}
    for part in PARTS_WITH_WEIGHTS:
        parts[part] = parts[part].to(device=device).requires_grad_(False).eval()
    folder = source if source.is_dir() else _hub_snapshot(where)
    return BaseModel(**parts, identity=read_identity(name, folder))


def _looks_like_hub_id(name: str) -> bool:
    owner, slash, rest = name.partition("/")
    return bool(owner and slash and rest) and "/" not in rest and not name.startswith((".", "~"))


def _check_folder(folder: Path) -> None:
    """Say which part is missing before any library says it in its own words."""
    for part in _COMPONENTS:
        if not (folder / part).is_dir():
            raise BaseModelError(f"base model folder '{folder}' has no '{part}' folder")
    for part in PARTS_WITH_WEIGHTS:
        if not any((folder / part).glob("*.safetensors")):
            raise BaseModelError(f"'{folder / part}' holds no .safetensors weights")


def _load_part(kind: Any, where: str, part: str, dtype: torch.dtype) -> Any:
    try:
        if part == "unet" or part == "vae":
            return kind.from_pretrained(
                where, subfolder=part, torch_dtype=dtype, use_safetensors=True
            )
        if part == "text_encoder":
            return kind.from_pretrained(where, subfolder=part, dtype=dtype, use_safetensors=True)
        return kind.from_pretrained(where, subfolder=part)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        # The libraries raise all of these for files that are absent, cut short or not theirs.
        first_line = str(error).strip().partition("\n")[0]
        raise BaseModelError(
            f"cannot load '{part}' of base model '{where}': {first_line}"
        ) from error


def _hub_snapshot(name: str) -> Path:
    """Folder of the hub's local cache that the parts were just loaded from."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, "unet/config.json", local_files_only=True)).parent.parent
