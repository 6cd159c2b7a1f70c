"""Files of cloneofsimo/lora, which number their modules instead of naming them.

Number i is the i-th Linear layer met when torch walks the network: in diffusers every
transformer block's children in the order its constructor made them, down blocks first, then
up, then the middle, which was made last; in a block attentions before resnets. Which classes
were targets, and which order this release of diffusers had, is told by the sequence of shapes,
which has to fit to the end.
Where all shapes are alike (text encoders) the order of CLIPAttention is taken.

Source: https://github.com/cloneofsimo/lora, lora_diffusion/lora.py, `_find_modules_v2`,
`extract_lora_as_tensor`, `save_lora_weight`. Its scale is 1 whatever the rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from lorastyle.adapters.family import PLANS, Linear, attention_modules, resnet_modules
from lorastyle.adapters.formats.opening import Array
from lorastyle.adapters.updates import ModuleKey
from lorastyle.errors import AdapterFileError

KEY = re.compile(r"(unet|text_encoder):(\d{1,6}):(up|down)")

_TEXT_ENCODERS: tuple[tuple[int, int], ...] = ((12, 768), (23, 1024))
"""Layers and width of the text encoders of SD 1.x and 2.x."""
_IN_CLIP_ATTENTION = ("k_proj", "v_proj", "q_proj", "out_proj")

Named = dict[ModuleKey, dict[str, Array]]


def name_tensors(name: str, tensors: Mapping[str, Array]) -> tuple[Named, list[str]]:
    """A safetensors file's tensors by module and role, and the keys that are none of it."""
    numbered: dict[str, dict[int, dict[str, Array]]] = {}
    rest = []
    for key, array in tensors.items():
        found = KEY.fullmatch(key)
        if found is None:
            rest.append(key)
        else:
            parts = numbered.setdefault(found[1], {}).setdefault(int(found[2]), {})
            parts[found[3]] = array
    named: Named = {}
    for network, modules in numbered.items():
        if sorted(modules) != list(range(len(modules))):
            raise AdapterFileError(
                f"{name} numbers {len(modules)} modules of its {network} up to {max(modules)}; "
                "some are missing, save it again"
            )
        pairs = [_pair(name, f"{network}:{i}", modules[i]) for i in range(len(modules))]
        named |= _named(name, network, pairs)
    return named, rest


def name_list(name: str, arrays: Sequence[Array]) -> Named:
    """A list of up, down, up, down, ...: of the U-Net or of a text encoder, as shapes tell."""
    if len(arrays) % 2:
        raise AdapterFileError(
            f"{name} is a list of {len(arrays)} tensors; up and down alternate in such files, "
            "so one is missing"
        )
    pairs = [
        _pair(name, f"number {i // 2}", {"up": arrays[i], "down": arrays[i + 1]})
        for i in range(0, len(arrays), 2)
    ]
    square = set(_shapes(pairs))
    is_text = len(square) == 1 and any(
        len(pairs) == len(_IN_CLIP_ATTENTION) * layers and square == {(width, width)}
        for layers, width in _TEXT_ENCODERS
    )
    return _named(name, "text_encoder" if is_text else "unet", pairs)


def _pair(name: str, what: str, parts: Mapping[str, Array]) -> tuple[Array, Array]:
    if parts.keys() != {"up", "down"}:
        raise AdapterFileError(
            f"{name} has {' and '.join(parts)} of {what} but not both; the file is incomplete"
        )
    up, down = parts["up"], parts["down"]
    if up.ndim < 2 or down.ndim < 2 or up.shape[1] != down.shape[0] or 0 in up.shape:
        raise AdapterFileError(
            f"{name} has up {tuple(up.shape)} and down {tuple(down.shape)} of {what}, "
            "which do not fit together"
        )
    return up, down


def _named(name: str, network: str, pairs: Sequence[tuple[Array, Array]]) -> Named:
    shapes = _shapes(pairs)
    found = next(
        (
            modules
            for modules in (_text_orders() if network == "text_encoder" else _unet_orders())
            if [(module.out_features, module.in_features) for module in modules] == shapes
        ),
        None,
    )
    if found is None:
        raise AdapterFileError(
            f"{name} numbers {len(pairs)} modules of its {network}, the first of shape "
            f"{shapes[0]}; no known order of Stable Diffusion 1.x or 2.x has these shapes"
        )
    return {
        ModuleKey(network, module.name): {"up": up, "down": down}
        for module, (up, down) in zip(found, pairs, strict=True)
    }


def _shapes(pairs: Sequence[tuple[Array, Array]]) -> list[tuple[int, int]]:
    """(out, in) of each update, a convolution's kernel among its inputs."""
    return [(up.shape[0], math.prod(down.shape[1:])) for up, down in pairs]


def _unet_orders() -> Iterator[list[Linear]]:
    """Targets {CrossAttention, Attention}, with GEGLU, and with ResnetBlock2D ("extended"), in
    each order of diffusers.
    """
    for family, ff_first in product(("sd1", "sd2"), (True, False)):
        plan = PLANS[family]
        for pattern, extended in ((_ATTENTION, False), (_AND_GEGLU, False), (_AND_GEGLU, True)):
            modules: list[Linear] = []
            for block in plan.blocks():
                linears = attention_modules(plan, block, ff_first=ff_first)
                modules += [linear for linear in linears if pattern.search(linear.name)]
                modules += resnet_modules(plan, block) if extended else []
            yield modules


_ATTENTION = re.compile(r"\.attn[12]\.")
_AND_GEGLU = re.compile(r"\.attn[12]\.|\.ff\.net\.0\.proj")


def _text_orders() -> list[list[Linear]]:
    return [
        [
            Linear(f"text_model.encoder.layers.{layer}.self_attn.{part}", width, width)
            for layer in range(layers)
            for part in _IN_CLIP_ATTENTION
        ]
        for layers, width in _TEXT_ENCODERS
    ]
