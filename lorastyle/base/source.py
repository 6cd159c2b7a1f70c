"""What a base model's name means: files on this machine, fetched where they are not here yet.

No torch here: planning, and a finished run, only ask which model it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorastyle.base.checkpoint import Checkpoint, names_a_file, open_checkpoint
from lorastyle.base.companion import configs_of
from lorastyle.base.folders import CONFIGS, files_to_load, has_configs, read_config, weights_of
from lorastyle.base.weight_files import WeightFiles
from lorastyle.errors import BaseModelError
from lorastyle.hub import (
    cached_snapshot,
    fetch_snapshot,
    looks_like_hub_id,
    revision_of,
)

MINIATURE = Path(__file__).parent / "miniature"
"""The shipped folder, which the name "miniature" means."""


@dataclass(frozen=True)
class Source:
    """Where everything of one base model lies."""

    configs: Path
    """A diffusers folder: configs, scheduler and tokenizer."""
    weights: tuple[WeightFiles, ...]
    """Of that folder; none where a single file has them."""
    checkpoint: Checkpoint | None = None
    revision: str | None = None
    """The hub's commit that the weights are of."""

    @property
    def files(self) -> list[tuple[str, Path]]:
        """The files of weights that are loaded, each with its label for the hash."""
        if self.checkpoint is not None:
            return [("", self.checkpoint.path)]
        return [
            (f"{chosen.part}/{name}", self.configs / chosen.part / name)
            for chosen in self.weights
            for name in chosen.names
        ]

    def config(self, part: str) -> dict[str, Any]:
        """A part's config. Raises BaseModelError where it cannot be read."""
        return read_config(self.configs, part)

    @property
    def prediction_type(self) -> str:
        """What the U-Net predicts: by a single file's side-car, or by the scheduler's config."""
        if self.checkpoint is not None and self.checkpoint.said_prediction_type:
            return self.checkpoint.said_prediction_type
        # diffusers leaves defaults out of older configs.
        return str(self.config("scheduler").get("prediction_type", "epsilon"))


def folder_of(name: str | Path) -> Path:
    """The folder that a base model's name means, if it is one."""
    return MINIATURE if str(name) == "miniature" else Path(name)


def local_path(name: str | Path) -> Path:
    """The folder or single file that a name means on this machine, if it is here at all."""
    here = folder_of(name)
    if not here.exists() and not names_a_file(name) and looks_like_hub_id(str(name)):
        return cached_snapshot(str(name), CONFIGS["unet"]) or here
    return here


def find_source(name: str | Path) -> Source:
    """Everything that is to be loaded for this name.

    Raises BaseModelError where a part is missing, and where it can be neither found nor fetched.
    """
    folder = folder_of(name)
    if folder.is_dir():
        return Source(folder, weights_of(folder))
    if names_a_file(name):
        checkpoint = open_checkpoint(folder)
        return Source(configs_of(checkpoint), (), checkpoint=checkpoint)
    if not looks_like_hub_id(str(name)):
        raise BaseModelError(
            f"base model '{name}' is neither 'miniature', nor a folder, nor a .safetensors file, "
            "nor a hub id 'owner/name' or 'owner/name@revision'"
        )
    snapshot = _snapshot(str(name))
    return Source(snapshot, weights_of(snapshot), revision=revision_of(snapshot))


def _snapshot(name: str) -> Path:
    """A hub model's folder in the cache, fetched where it is not whole."""
    cached = cached_snapshot(name, CONFIGS["unet"])
    if cached is not None and has_configs(cached):
        try:
            weights_of(cached)
            return cached
        except BaseModelError:
            pass  # A download that was cut short, or configs only: the rest is fetched.
    return fetch_snapshot(name, files_to_load)
