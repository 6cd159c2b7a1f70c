"""DINO: a vision transformer trained on images alone; the class token is the feature.

Source: Caron et al. 2021, "Emerging properties in self-supervised vision transformers". Not
normalised.
"""

from __future__ import annotations

from torch import nn

from lorastyle.errors import FeatureError
from lorastyle.features.configs import architecture_by_config
from lorastyle.features.encoder import Encoder
from lorastyle.features.layouts import (
    HUB_VIT,
    TIMM_VIT,
    architecture_by_shapes,
    build_transformer,
    refuse_other_keys,
)
from lorastyle.features.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from lorastyle.features.tensor_file import read_tensors
from lorastyle.features.weights import Weights

DEFAULTS = {"patch_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
"""Of transformers' ViTConfig."""


def dino_encoder(weights: Weights) -> Encoder:
    """A folder or hub model that is a ViTModel, or DINO's own file. Raises FeatureError."""
    where = f"DINO {weights}"
    config = weights.config()
    if config is None:
        tensors = read_tensors(weights.paths)
        layout = TIMM_VIT
        refuse_other_keys(where, tensors, layout.keys(layout.count_layers(tensors)))
        architecture = architecture_by_shapes(where, layout, tensors)
    else:
        if config.get("model_type") != "vit":
            raise FeatureError(
                f"{where} is a model of type {str(config.get('model_type'))[:40]!r}; name a DINO, "
                "which is of type 'vit'"
            )
        # What is made of the class token for classifying; DINO's own has none.
        tensors = read_tensors(weights.paths, ignored=r"pooler\.dense\.(weight|bias)")
        layout = HUB_VIT
        architecture = architecture_by_config(
            where, config, DEFAULTS, len(tensors), has_norm_before=False, has_patch_bias=True
        )
        refuse_other_keys(where, tensors, layout.keys(architecture.n_layers))
    network = build_transformer(where, layout, architecture, tensors)
    return Encoder(
        nn.Sequential(network), architecture.width, imagenet_preprocessing(architecture.image_size)
    )


def imagenet_preprocessing(image_size: int) -> Preprocessing:
    """256 pixels, of which the middle 224 are seen; in that proportion for other sizes."""
    return Preprocessing(image_size * 256 // 224, image_size, IMAGENET_MEAN, IMAGENET_STD)
