"""ALADIN-ViT: a vision transformer trained to tell groups of images of one style.

Source: Ruta et al. 2022, "StyleBabel: artistic style tagging and captioning". No weights are
public, so the layout here is what its base is published in (timm's), and the preprocessing
DINO's: whoever has weights should compare.
"""

from __future__ import annotations

from torch import nn

from lorastyle.features.dino import imagenet_preprocessing
from lorastyle.features.encoder import Encoder, linear_head
from lorastyle.features.layouts import (
    TIMM_VIT,
    architecture_by_shapes,
    build_transformer,
    refuse_other_keys,
)
from lorastyle.features.tensor_file import read_tensors
from lorastyle.features.weights import Weights

HEAD = ("head.weight", "head.bias")


def aladin_encoder(weights: Weights) -> Encoder:
    """A vision transformer in timm's names, with or without a linear head. Raises FeatureError."""
    where = f"ALADIN-ViT {weights}"
    tensors = read_tensors(weights.paths, inside=("state_dict", "model_state_dict", "model"))
    has_head = any(name in tensors for name in HEAD)
    names = TIMM_VIT.keys(TIMM_VIT.count_layers(tensors))
    refuse_other_keys(where, tensors, names, HEAD if has_head else ())
    architecture = architecture_by_shapes(where, TIMM_VIT, tensors)
    network = build_transformer(where, TIMM_VIT, architecture, tensors)
    encoder = Encoder(
        nn.Sequential(network), architecture.width, imagenet_preprocessing(architecture.image_size)
    )
    if not has_head:
        return encoder
    head = linear_head(where, tensors, *HEAD, width=architecture.width)
    return encoder.with_head(head, dimension=head.out_features)
