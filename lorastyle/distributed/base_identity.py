"""Which base model a name means, from its files alone.

Stages compare it with what a run was made with before anything heavy is loaded:
a finished run must say so in a second, without torch.
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

WEIGHTED_PARTS = ("text_encoder", "unet", "vae")
"""Parts with weights, in the order in which they are hashed."""


def base_identity(name: str) -> dict[str, Any]:
    """Equal to `load_base(name).identity.to_dict()`, at the price of hashing the weights.

    A hub id that is not a folder here is loaded, and so downloaded where needed.
    Raises BaseModelError for a model that cannot be loaded.
    """
    folder = _folder_of(name)
    try:
        return _read_identity(name, folder)
    except (OSError, ValueError, KeyError, TypeError):
        # Not a complete folder: loading says what is wrong with it, or fetches it.
        from lorastyle.base.loading import load_base

        return load_base(name).identity.to_dict()


def _folder_of(name: str) -> Path:
    if name == "miniature":
        return Path(str(resources.files("lorastyle.base").joinpath("miniature")))
    return Path(name)


def _read_identity(name: str, folder: Path) -> dict[str, Any]:
    unet, vae = _read_json(folder / "unet/config.json"), _read_json(folder / "vae/config.json")
    scheduler = _read_json(folder / "scheduler/scheduler_config.json")
    return {
        "name": name,
        "sha256": _hash_weights(folder),
        # diffusers leaves defaults out of older configs.
        "prediction_type": str(scheduler.get("prediction_type", "epsilon")),
        "image_size": int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1),
        "latent_channels": int(vae["latent_channels"]),
        "cross_attention_dim": int(unet["cross_attention_dim"]),
    }


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _hash_weights(folder: Path) -> str:
    """Names and bytes of all weight files, as `lorastyle.base.loading` hashes them."""
    digest = hashlib.sha256()
    for part in WEIGHTED_PARTS:
        for file in sorted((folder / part).glob("*.safetensors")):
            digest.update(f"{part}/{file.name}".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
