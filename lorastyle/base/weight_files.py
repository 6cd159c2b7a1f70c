"""Which of a part's weight files are loaded, of all that a folder may hold.

Repositories keep the same weights several times: in half precision beside full, and with and
without averaging (`non_ema`). What is loaded is what is hashed, so it is decided here alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

PARTS_WITH_WEIGHTS = ("text_encoder", "unet", "vae")
"""In the order in which they are hashed."""

_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_TEXT_STEM = "model"


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of one part."""

    part: str
    names: tuple[str, ...]
    """Inside the part's folder: one, or the shards in order."""
    variant: str | None
    """`fp16` where only that is there, as diffusers and transformers call it."""


def choose_weights(part: str, names: Iterable[str]) -> WeightFiles | None:
    """Those of a part's files that are loaded: in full precision where it is there.

    >>> files = ["model.fp16.safetensors", "model.safetensors", "pytorch_model.bin"]
    >>> choose_weights("text_encoder", files).names
    ('model.safetensors',)
    >>> choose_weights("text_encoder", files[:1]).variant
    'fp16'
    """
    stem = _STEMS.get(part, _TEXT_STEM)
    pattern = re.compile(rf"{stem}(?:\.(fp16))?(-\d{{5}}-of-\d{{5}})?\.safetensors")
    whole: dict[str | None, str] = {}
    shards: dict[str | None, list[str]] = {}
    for name in sorted(names):
        if match := pattern.fullmatch(name):
            variant, shard = match.groups()
            if shard:
                shards.setdefault(variant, []).append(name)
            else:
                whole[variant] = name
    for variant in (None, "fp16"):
        if variant in whole:
            return WeightFiles(part, (whole[variant],), variant)
        if variant in shards:
            return WeightFiles(part, tuple(shards[variant]), variant)
    return None
