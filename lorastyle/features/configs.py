"""A vision transformer's architecture out of the config.json beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorastyle.errors import FeatureError
from lorastyle.features.vision_transformer import Architecture

DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
}
"""Of transformers' CLIPVisionConfig and ViTConfig: configs may leave out what is as here."""


def architecture_by_config(
    where: str,
    config: Any,
    defaults: Mapping[str, Any],
    n_tensors: int,
    *,
    has_norm_before: bool,
    has_patch_bias: bool,
) -> Architecture:
    """What a config of transformers says; `defaults` for what it leaves out and its kind has.

    Raises FeatureError for what cannot be, and for more blocks than `n_tensors` could hold.
    """
    if not isinstance(config, dict):
        raise FeatureError(f"{where} has a config that does not describe a vision model")
    values: dict[str, Any] = {**DEFAULTS, **defaults}
    values.update((key, config[key]) for key in values.keys() & config.keys())
    numbers = {
        key: value for key, value in values.items() if key not in ("hidden_act", "layer_norm_eps")
    }
    for key, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**20:
            raise FeatureError(f"{where} has a config with {key} = {str(value)[:40]!r}")
    width, n_heads = values["hidden_size"], values["num_attention_heads"]
    n_layers, epsilon = values["num_hidden_layers"], values["layer_norm_eps"]
    if width % n_heads or n_layers > n_tensors:
        raise FeatureError(
            f"{where} has a config of {n_layers} layers, {n_heads} heads and width {width}, and "
            f"{n_tensors} tensors; they do not belong together"
        )
    if values["hidden_act"] not in ("gelu", "quick_gelu") or not isinstance(epsilon, float):
        raise FeatureError(
            f"{where} has a config with hidden_act {str(values['hidden_act'])[:40]!r} and "
            f"layer_norm_eps {str(epsilon)[:40]}; features know 'gelu' and 'quick_gelu'"
        )
    return Architecture(
        width=width,
        n_layers=n_layers,
        n_heads=n_heads,
        mlp_width=values["intermediate_size"],
        patch_size=values["patch_size"],
        image_size=values["image_size"],
        activation=values["hidden_act"],
        epsilon=epsilon,
        has_norm_before=has_norm_before,
        has_patch_bias=has_patch_bias,
    )
