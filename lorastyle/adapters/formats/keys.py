"""What a tensor's key says: of which network and module it is, and what part of its update."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from lorastyle.adapters.naming import canonical_module
from lorastyle.adapters.updates import ModuleKey


class Key(NamedTuple):
    """A key that was understood."""

    module: ModuleKey
    role: str
    """`down`, `up`, `mid`, `alpha`, `magnitude`, `dora_scale`, `diff`, `hada_w1_a`, ..."""
    style: str
    """Who writes keys so: `kohya`, `kohya-malformed`, `diffusers`, `diffusers-attn-procs`,
    `peft`, `onetrainer`, `comfy` or `bare`."""


_ROLES: tuple[tuple[str, str], ...] = (
    (r"\.lora_down(?:\.weight)?", "down"),
    (r"\.lora_up(?:\.weight)?", "up"),
    (r"\.lora_mid(?:\.weight)?", "mid"),
    (r"[._]lora\.down\.weight", "down"),
    (r"[._]lora\.up\.weight", "up"),
    (r"\.lora_linear_layer\.down\.weight", "down"),
    (r"\.lora_linear_layer\.up\.weight", "up"),
    (r"\.lora_A(?:\.(?!bias)[^.]+)?(?:\.weight)?", "down"),
    (r"\.lora_B(?:\.(?!bias)[^.]+)?(?:\.weight)?", "up"),
    (r"\.lora_B(?:\.[^.]+)?\.bias", "bias"),
    (r"\.lora_magnitude_vector(?:\.[^.]+)?(?:\.weight)?", "magnitude"),
    (r"\.dora_scale", "dora_scale"),
    (r"\.alpha", "alpha"),
    (r"\.(?P<own>hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))(?:\.default)?", ""),
    (r"\.diff", "diff"),
    (r"\.diff_b", "bias"),
    (r"\.[wb]_norm", "bias"),
)
"""Endings of keys, and the role each gives; LoHa's and LoKr's roles are their own names."""
_ENDING = re.compile("|".join(f"(?P<r{i}>{pattern})" for i, (pattern, _) in enumerate(_ROLES)))
_BEGIN = re.compile(r"\.|_(?=lora\.)")
"""Where an ending may begin."""

_PREFIXES: tuple[tuple[str, str, str], ...] = (
    ("lora_unet_unet_", "unet", "kohya-malformed"),
    ("lora_unet_", "unet", "kohya"),
    ("lora_unet.", "unet", "onetrainer"),
    ("lora_te_", "text_encoder", "kohya"),
    ("lora_te1_", "text_encoder", "kohya"),
    ("lora_te2_", "text_encoder_2", "kohya"),
    ("lora_te.", "text_encoder", "onetrainer"),
    ("lora_te1.", "text_encoder", "onetrainer"),
    ("lora_te2.", "text_encoder_2", "onetrainer"),
    ("lycoris_", "", "kohya"),
    ("unet.", "unet", "diffusers"),
    ("text_encoder_2.", "text_encoder_2", "diffusers"),
    ("text_encoder_1.", "text_encoder", "diffusers"),
    ("text_encoder.", "text_encoder", "diffusers"),
    ("diffusion_model.", "unet", "comfy"),
    ("model.diffusion_model.", "unet", "comfy"),
    ("text_encoders.clip_l.transformer.", "text_encoder", "comfy"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2", "comfy"),
    ("text_encoders.clip_l.", "text_encoder", "comfy"),
    ("text_encoders.clip_g.", "text_encoder_2", "comfy"),
    ("base_model.model.", "", "peft"),
)


# Files of one trainer have the same keys, and a server reads many of them.
@lru_cache(maxsize=20_000)
def parse_key(key: str) -> Key | None:
    """The parts of a key, or None where it is none of a LoRA's on a known network.

    >>> parse_key("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight")
    Key(module=ModuleKey(network='unet', module='mid_block.attentions.0.proj_in'), \
role='down', style='kohya')
    """
    for begin in _BEGIN.finditer(key):
        found = _ENDING.fullmatch(key, begin.start())
        if found is not None:
            role = _ROLES[int((found.lastgroup or "")[1:])][1] or found["own"]
            return _key(key[: begin.start()], role)
    return None


def _key(module_name: str, role: str) -> Key | None:
    network, name, style = _strip(module_name)
    module = canonical_module(name)
    if module is None or not _of(network, module[0]):
        return None
    if "processor" in name and style in ("bare", "diffusers"):
        style = "diffusers-attn-procs"
    return Key(ModuleKey(network or module[0], module[1]), role, style)


def _strip(name: str) -> tuple[str, str, str]:
    """Network (empty where the prefix says none), the rest, and whose prefixes they were."""
    network, style = "", ""
    stripped = True
    while stripped:
        stripped = False
        for prefix, of, writer in _PREFIXES:
            if name.startswith(prefix):
                name, network, style = name[len(prefix) :], of or network, style or writer
                stripped = True
                break
    return network, name, style or "bare"


def _of(network: str, found: str) -> bool:
    """Whether a prefix's network and the module's kind agree."""
    return not network or network.startswith(found)


_REFUSED: tuple[tuple[str, str], ...] = (
    (r"\.oft_|oft_blocks|oft_R|oft_diag|boft_", "OFT or BOFT (a rotation of the base weights)"),
    (r"\.(?:ia3_l|on_input)\b", "IA3 (a rescaling of activations)"),
    (r"\.(?:a1|a2|b1|b2|bm1|bm2)\.weight$", "GLoRA (a function of the base weights)"),
    (r"\.vera_lambda|\.vera_", "VeRA (its projections are not in the file)"),
    (r"single_transformer_blocks|(?:double|single)_blocks", "a Flux LoRA"),
    (r"joint_blocks|attn\.add_k_proj|attn_add_k_proj", "a Stable Diffusion 3 LoRA"),
    (r"custom_diffusion", "Custom Diffusion (whole projection matrices)"),
    (r"control_model|lllite|controlnet", "a ControlNet"),
    (r"ip_adapter|image_proj", "an IP-Adapter"),
    (r"motion_modules|temporal_transformer", "a motion module of a video model"),
    (r"self_attn\.(?:q|k|v|o)_proj|lm_head|q_lin|query_key_value", "a language model's LoRA"),
    (r"cond_stage_model|first_stage_model|model\.diffusion_model", "a whole checkpoint"),
    (r"(?:^|\.)transformer[._]|lora_transformer|lora_prior", "a LoRA of another architecture"),
)
_WHAT = tuple((re.compile(pattern), what) for pattern, what in _REFUSED)


def what_it_is(keys: Sequence[str]) -> str | None:
    """What else a file with such keys is known to be."""
    for pattern, what in _WHAT:
        if any(pattern.search(key) for key in keys):
            return what
    return None
