"""CSD: CLIP's image half tuned for style, and a head for it.

Source: Somepalli et al. 2024, "Measuring style similarity in diffusion models";
github.com/learn2phoenix/CSD. The original loader skips what does not fit; this one refuses it.
"""

from __future__ import annotations

from torch import Tensor, nn

from lorastyle.features.clip import clip_preprocessing
from lorastyle.features.encoder import Encoder, UnitLength, linear_head
from lorastyle.features.layouts import (
    OPENAI_CLIP,
    architecture_by_shapes,
    build_transformer,
    refuse_other_keys,
)
from lorastyle.features.tensor_file import read_tensors
from lorastyle.features.weights import Weights

STYLE_HEAD = "last_layer_style"
BACKBONE = "backbone."
_CONTENT_HEAD = r"(module\.)?last_layer_content(\..*)?"
"""Trained beside that of style, against it."""


def csd_encoder(weights: Weights) -> Encoder:
    """The training checkpoint that was released, or its weights alone. Raises FeatureError."""
    where = f"CSD {weights}"
    tensors = _unwrapped(
        read_tensors(weights.paths, inside=("model_state_dict",), ignored=_CONTENT_HEAD)
    )
    n_layers = OPENAI_CLIP.count_layers(tensors, BACKBONE)
    refuse_other_keys(where, tensors, OPENAI_CLIP.keys(n_layers, BACKBONE), [STYLE_HEAD])
    architecture = architecture_by_shapes(where, OPENAI_CLIP, tensors, BACKBONE)
    network = build_transformer(where, OPENAI_CLIP, architecture, tensors, BACKBONE)
    # The file has it as (width, dimension), to multiply from the right.
    head = linear_head(
        where, {STYLE_HEAD: tensors[STYLE_HEAD].t()}, STYLE_HEAD, None, architecture.width
    )
    return Encoder(
        nn.Sequential(network, head, UnitLength()),
        head.out_features,
        clip_preprocessing(architecture.image_size),
    )


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the `module.` that training on several GPUs puts before every name."""
    if not all(name.startswith("module.") for name in tensors):
        return tensors
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
