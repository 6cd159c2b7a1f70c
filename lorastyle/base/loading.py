"""The frozen base model: any Stable Diffusion folder or hub id, and the miniature that is shipped.

All come through one door, component by component, from safetensors only; no code that lies in a
model repository is run.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from lorastyle.errors import BaseModelError

MINIATURE = Path(__file__).parent / "miniature"
"""The shipped folder; ``load_base("miniature")`` reads it."""

_COMPONENTS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "tokenizer": CLIPTokenizer,
    "scheduler": DDPMScheduler,
}
_WITH_WEIGHTS = ("unet", "vae", "text_encoder")


@dataclass(frozen=True)
class BaseIdentity:
    """Which base model an adapter belongs to."""

    name: str
    sha256: str
    """Of the weight files, in the order of their paths."""
    prediction_type: str
    image_size: int
    """Pixels of a side, as the model was trained."""
    latent_channels: int
    cross_attention_dim: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    source = MINIATURE if str(name) == "miniature" else Path(name)
    if source.is_dir():
        _check_folder(source)
    elif not _looks_like_hub_id(str(name)):
        raise BaseModelError(
            f"base model '{name}' is neither 'miniature', nor a folder, nor a hub id 'owner/name'"
        )
    where = str(source) if source.is_dir() else str(name)
    parts = {part: _load_part(kind, where, part, dtype) for part, kind in _COMPONENTS.items()}
    for part in _WITH_WEIGHTS:
        parts[part] = parts[part].to(device=device).requires_grad_(False).eval()
    unet, vae, scheduler = parts["unet"], parts["vae"], parts["scheduler"]
    identity = BaseIdentity(
        name=str(name),
        sha256=_hash_weights(where),
        prediction_type=str(scheduler.config.prediction_type),
        image_size=int(unet.config.sample_size) * 2 ** (len(vae.config.block_out_channels) - 1),
        latent_channels=int(vae.config.latent_channels),
        cross_attention_dim=int(unet.config.cross_attention_dim),
    )
    return BaseModel(**parts, identity=identity)


def _looks_like_hub_id(name: str) -> bool:
    owner, slash, rest = name.partition("/")
    return bool(owner and slash and rest) and "/" not in rest and not name.startswith((".", "~"))


def _check_folder(folder: Path) -> None:
    """Say which part is missing before any library says it in its own words."""
    for part in _COMPONENTS:
        if not (folder / part).is_dir():
            raise BaseModelError(f"base model folder '{folder}' has no '{part}' folder")
    for part in _WITH_WEIGHTS:
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


def _hash_weights(where: str) -> str:
    folder = Path(where)
    if not folder.is_dir():
        folder = _hub_snapshot(where)
    digest = hashlib.sha256()
    for part in sorted(_WITH_WEIGHTS):
        for file in sorted((folder / part).glob("*.safetensors")):
            digest.update(f"{part}/{file.name}".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _hub_snapshot(name: str) -> Path:
    """Folder of the hub's local cache that the parts were just loaded from."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, "unet/config.json", local_files_only=True)).parent.parent
