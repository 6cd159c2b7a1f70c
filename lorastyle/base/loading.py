"""The frozen base model: a Stable Diffusion folder, hub id or single file, or the miniature.

All come through one door, component by component, from safetensors only; no code that lies in a
model repository is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from lorastyle.base.identity import BaseIdentity, identity_of
from lorastyle.base.source import Source, find_source
from lorastyle.base.weight_files import WeightFiles
from lorastyle.errors import BaseModelError

_MODELS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
}


@dataclass
class BaseModel:
    """A frozen latent diffusion model in parts, and what it is."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDPMScheduler
    identity: BaseIdentity


def load_base(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> BaseModel:
    """Load and freeze a base model.

    ``name`` is "miniature", a folder in the diffusers layout, a single .safetensors file in the
    original layout, or a hub id, with or without `@revision`. Parts are in evaluation mode and
    need no gradients. Raises BaseModelError, naming what is missing.
    """
    source = find_source(name)
    identity = identity_of(name, source)
    parts = {part: _load_model(source, part, dtype) for part in _MODELS}
    for part in parts.values():
        part.to(device=device).requires_grad_(False).eval()
    return BaseModel(
        **parts,
        tokenizer=_load(CLIPTokenizer, source, "tokenizer"),
        scheduler=_load_scheduler(source),
        identity=identity,
    )


def _load_model(source: Source, part: str, dtype: torch.dtype) -> Any:
    if source.checkpoint is not None:
        from lorastyle.base.single_file import load_part

        return load_part(source, part, dtype)
    chosen = next(files for files in source.weights if files.part == part)
    # transformers has another word for it.
    type_word = "dtype" if part == "text_encoder" else "torch_dtype"
    model, report = _load(
        _MODELS[part],
        source,
        part,
        use_safetensors=True,
        variant=chosen.variant,
        output_loading_info=True,
        **{type_word: dtype},
    )
    _refuse_gaps(source, chosen, report)
    return model


def _refuse_gaps(source: Source, chosen: WeightFiles, report: dict[str, Any]) -> None:
    """The libraries fill what is missing with random numbers, and only log it."""
    if missing := sorted(report["missing_keys"]):
        raise BaseModelError(
            f"cannot load '{chosen.part}' of base model '{source.configs}': {chosen.names[0]} "
            f"lacks {len(missing)} tensors that its config asks for, first '{missing[0]}'"
        )


def _load_scheduler(source: Source) -> Any:
    scheduler = _load(DDPMScheduler, source, "scheduler")
    if scheduler.config.get("prediction_type") != source.prediction_type:
        return DDPMScheduler.from_config(scheduler.config, prediction_type=source.prediction_type)
    return scheduler


def _load(kind: Any, source: Source, part: str, **settings: Any) -> Any:
    try:
        return kind.from_pretrained(
            str(source.configs), subfolder=part, local_files_only=True, **settings
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        # The libraries raise all of these for files that are absent, cut short or not theirs.
        first_line = str(error).strip().partition("\n")[0]
        raise BaseModelError(
            f"cannot load '{part}' of base model '{source.configs}': {first_line}"
        ) from error
