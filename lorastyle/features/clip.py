"""CLIP: the image half with its projection, as transformers writes it.

Source: Radford et al. 2021, "Learning transferable visual models from natural language
supervision"; `CLIPVisionModelWithProjection.image_embeds` of transformers. Not normalised.
"""

from __future__ import annotations

from torch import nn

from lorastyle.errors import FeatureError
from lorastyle.features.configs import architecture_by_config
from lorastyle.features.encoder import Encoder, linear_head
from lorastyle.features.layouts import HUB_CLIP, build_transformer, refuse_other_keys
from lorastyle.features.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from lorastyle.features.tensor_file import read_tensors
from lorastyle.features.weights import Weights

PROJECTION = "visual_projection.weight"
_TEXT_HALF = r"text_model\..*|text_projection\.weight|logit_scale|.*\.position_ids"
DEFAULTS = {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
"""Of transformers' CLIPVisionConfig."""


def clip_encoder(weights: Weights) -> Encoder:
    """A CLIP's image half: a folder or hub model with a config. Raises FeatureError."""
    where = f"CLIP {weights}"
    config = weights.config()
    if config is None:
        raise FeatureError(f"{where} is a single file, without a config; name a model's folder")
    if config.get("model_type") not in ("clip", "clip_vision_model"):
        raise FeatureError(
            f"{where} is a model of type {str(config.get('model_type'))[:40]!r}; name a CLIP"
        )
    vision = config.get("vision_config") if config["model_type"] == "clip" else config
    tensors = read_tensors(weights.paths, ignored=_TEXT_HALF)
    architecture = architecture_by_config(
        where, vision, DEFAULTS, len(tensors), has_norm_before=True, has_patch_bias=False
    )
    refuse_other_keys(where, tensors, HUB_CLIP.keys(architecture.n_layers), [PROJECTION])
    network = build_transformer(where, HUB_CLIP, architecture, tensors)
    head = linear_head(where, tensors, PROJECTION, None, architecture.width)
    return Encoder(
        nn.Sequential(network, head), head.out_features, clip_preprocessing(architecture.image_size)
    )


def clip_preprocessing(image_size: int) -> Preprocessing:
    """As OpenAI's `clip.load` gives it."""
    return Preprocessing(image_size, image_size, CLIP_MEAN, CLIP_STD)
