"""Which base model a name means, read from its files alone.

No torch here: a finished run compares the base model with the one it was made
with, and must say that there is nothing to do within a second or two.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MINIATURE = Path(__file__).parent / "miniature"
"""The shipped folder, which the name "miniature" means."""

PARTS_WITH_WEIGHTS = ("text_encoder", "unet", "vae")
"""In the order in which they are hashed."""


@dataclass(frozen=True)
class BaseIdentity:
    """Which base model an adapter belongs to."""

    name: str
    sha256: str
    """Of the weight files' names and bytes, in the order of their paths."""
    prediction_type: str
    image_size: int
    """Pixels of a side, as the model was trained."""
    latent_channels: int
    cross_attention_dim: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def folder_of(name: str | Path) -> Path:
    """The folder that a base model's name means, if it is one."""
    return MINIATURE if str(name) == "miniature" else Path(name)


def read_identity(name: str | Path, folder: Path) -> BaseIdentity:
    """The identity of a complete diffusers folder, under a name."""
    unet, vae = _read_json(folder / "unet/config.json"), _read_json(folder / "vae/config.json")
    scheduler = _read_json(folder / "scheduler/scheduler_config.json")
    return BaseIdentity(
        name=str(name),
        sha256=_hash_weights(folder),
        # diffusers leaves defaults out of older configs.
        prediction_type=str(scheduler.get("prediction_type", "epsilon")),
        image_size=int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1),
        latent_channels=int(vae["latent_channels"]),
        cross_attention_dim=int(unet["cross_attention_dim"]),
    )


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _hash_weights(folder: Path) -> str:
    digest = hashlib.sha256()
    for part in PARTS_WITH_WEIGHTS:
        for file in sorted((folder / part).glob("*.safetensors")):
            digest.update(f"{part}/{file.name}".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
