"""The parts of a base model out of a single file, every parameter accounted for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from lorastyle.base.checkpoint import Checkpoint
from lorastyle.base.origins import Origins, find_origins
from lorastyle.base.source import Source
from lorastyle.errors import BaseModelError


def load_part(source: Source, part: str, dtype: torch.dtype) -> Any:
    """`unet`, `vae` or `text_encoder` of a single file, on the CPU.

    Raises BaseModelError, naming the first, where tensors are missing, too many, or of a shape
    that the part's config does not have.
    """
    checkpoint = source.checkpoint
    assert checkpoint is not None
    config = source.config(part)
    empty = _empty(part, source.configs, config)
    origins = find_origins(part, checkpoint, config)
    if part == "text_encoder":
        origins = _as_loaded(origins, empty)
    _check_shapes(part, checkpoint, origins, empty)
    tensors = dict(_read(checkpoint.path, origins, dtype))
    empty.load_state_dict(tensors, strict=True, assign=True)
    return empty


def _empty(part: str, configs: Path, config: dict[str, Any]) -> Any:
    """The part without weights; buffers that are not saved are computed."""
    try:
        with init_empty_weights(include_buffers=False):
            if part == "unet":
                return UNet2DConditionModel.from_config(config)
            if part == "vae":
                return AutoencoderKL.from_config(config)
            return CLIPTextModel(CLIPTextConfig.from_pretrained(configs / part))
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise BaseModelError(f"'{configs}' describes no {part}: {error}") from error


def _as_loaded(origins: Origins, empty: Any) -> Origins:
    """The text encoder's by the names that the installed transformers has for them.

    Stable Diffusion 2.x reads OpenCLIP's last layer but one, and its config has one layer less
    than the file: that layer is left out.
    """
    prefix = "text_model." if hasattr(empty, "text_model") else ""
    last = re.compile(rf"text_model\.encoder\.layers\.{empty.config.num_hidden_layers}\.")
    is_open_clip = any(".resblocks." in origin.key for origin in origins.values())
    return {
        prefix + name.removeprefix("text_model."): origin
        for name, origin in origins.items()
        if not (is_open_clip and last.match(name))
    }


def _check_shapes(part: str, checkpoint: Checkpoint, origins: Origins, empty: nn.Module) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    where = f"the {part} in '{checkpoint.path}'"
    if missing := wanted.keys() - origins.keys():
        raise BaseModelError(
            f"{where} lacks {len(missing)} of {len(wanted)} tensors, first '{min(missing)}'; "
            "take a whole checkpoint, and configs of its own family"
        )
    if extra := origins.keys() - wanted.keys():
        first = min(extra)
        raise BaseModelError(
            f"{where} has {len(extra)} tensors more than its config describes, first "
            f"'{origins[first].key}'; the configs must be of the file's own family"
        )
    for name, shape in wanted.items():
        if (found := _shape(origins, name)) != shape:
            raise BaseModelError(
                f"'{origins[name].key}' in '{checkpoint.path}' gives {found}, and by the config "
                f"'{name}' is {shape}; the configs must be of the file's own family"
            )


def _shape(origins: Origins, name: str) -> tuple[int, ...]:
    origin = origins[name]
    return tuple(torch.empty(origin.shape, device="meta")[origin.index].shape)


def _read(path: Path, origins: Origins, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """One tensor at a time: the file may be larger than the part by the other parts."""
    try:
        with safe_open(path, framework="pt") as file:
            for name, origin in origins.items():
                tensor = file.get_tensor(origin.key)[origin.index]
                # A copy, even of the right type: a view would keep the file mapped.
                yield name, tensor.to(dtype, copy=True).contiguous()
    except (SafetensorError, OSError) as error:
        raise BaseModelError(f"'{path}' cannot be read: {error}") from error
