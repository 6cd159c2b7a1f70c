"""Configs, scheduler and tokenizer of a single file, which has none of them."""

from __future__ import annotations

from pathlib import Path

from lorastyle.base.checkpoint import Checkpoint
from lorastyle.base.folders import CONFIGS, check_parts, files_of_configs, has_configs, read_config
from lorastyle.base.known import CONTEXT_WIDTHS, published
from lorastyle.errors import BaseModelError, HubError
from lorastyle.hub import cached_snapshot, fetch_snapshot


def configs_of(checkpoint: Checkpoint) -> Path:
    """The diffusers folder that describes a single file, fetched where it is not here.

    Raises BaseModelError where there is none, or one of another family.
    """
    configs = local_configs(checkpoint) or _fetched_configs(checkpoint)
    described = read_config(configs, "unet").get("cross_attention_dim")
    if described != checkpoint.context_width:
        raise BaseModelError(
            f"the U-Net in '{checkpoint.path}' reads text embeddings {checkpoint.context_width} "
            f"wide, and that of '{configs}' {described}; the configs must be of the file's own "
            "family"
        )
    return configs


def local_configs(checkpoint: Checkpoint) -> Path | None:
    """A single file's configs on this machine: `NAME.config/`, or the hub's cache.

    Raises BaseModelError where `NAME.config/` is there and not whole.
    """
    beside = checkpoint.configs_folder
    if beside.is_dir():
        check_parts(beside)
        return beside
    for name in _models_alike(checkpoint):
        cached = cached_snapshot(name, CONFIGS["unet"])
        if cached is not None and has_configs(cached):
            return cached
    return None


def _fetched_configs(checkpoint: Checkpoint) -> Path:
    names = _models_alike(checkpoint)
    if not names:
        raise BaseModelError(
            f"the U-Net in '{checkpoint.path}' reads text embeddings {checkpoint.context_width} "
            f"wide, which no known base model does ({', '.join(map(str, CONTEXT_WIDTHS))}); put "
            f"the configs and tokenizer of its family into '{checkpoint.configs_folder}'"
        )
    try:
        return fetch_snapshot(names[0], files_of_configs)
    except HubError as error:
        raise BaseModelError(
            f"'{checkpoint.path}' needs the configs and tokenizer of its family: put a diffusers "
            f"folder without weights at '{checkpoint.configs_folder}', or: {error}"
        ) from error


def _models_alike(checkpoint: Checkpoint) -> list[str]:
    """Hub ids of models that differ from this one in weights only."""
    family = checkpoint.family
    if family is None:
        return []
    # No file of 1.x's own predicts velocities: those that were tuned to are told by the side-car.
    kind = checkpoint.said_prediction_type or "epsilon"
    return list(published(family, "epsilon" if family == "sd1" else kind))
