"""What a base model's name means: files on this machine, fetched where they are not here yet.

No torch here: planning, and a finished run, only ask which model it is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorastyle.base.checkpoint import Checkpoint, names_a_file, open_checkpoint
from lorastyle.base.hub import (
    cached_snapshot,
    fetch_snapshot,
    looks_like_hub_id,
    revision_of,
)
from lorastyle.base.known import CONTEXT_WIDTHS, published
from lorastyle.base.weight_files import PARTS_WITH_WEIGHTS, WeightFiles, choose_weights
from lorastyle.errors import BaseModelError

MINIATURE = Path(__file__).parent / "miniature"
"""The shipped folder, which the name "miniature" means."""

CONFIGS = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text_encoder": "text_encoder/config.json",
    "tokenizer": "tokenizer/tokenizer_config.json",
    "scheduler": "scheduler/scheduler_config.json",
}
"""The parts of a base model, and the file that describes each."""

_CONFIG_LIMIT = 2**20


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
        return cached_snapshot(str(name)) or here
    return here


def find_source(name: str | Path) -> Source:
    """Everything that is to be loaded for this name.

    Raises BaseModelError where a part is missing, and where it can be neither found nor fetched.
    """
    folder = folder_of(name)
    if folder.is_dir():
        return Source(folder, _weights_of(folder))
    if names_a_file(name):
        return _of_file(folder)
    if not looks_like_hub_id(str(name)):
        raise BaseModelError(
            f"base model '{name}' is neither 'miniature', nor a folder, nor a .safetensors file, "
            "nor a hub id 'owner/name' or 'owner/name@revision'"
        )
    snapshot = _snapshot(str(name))
    return Source(snapshot, _weights_of(snapshot), revision=revision_of(snapshot))


def read_config(folder: Path, part: str) -> dict[str, Any]:
    """One part's config out of a diffusers folder. Raises BaseModelError."""
    path = folder / CONFIGS[part]
    try:
        if path.stat().st_size > _CONFIG_LIMIT:
            raise ValueError("it is larger than 1 MiB")
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BaseModelError(
            f"cannot load '{part}' of base model '{folder}': no readable {CONFIGS[part]} ({error})"
        ) from error


def _weights_of(folder: Path) -> tuple[WeightFiles, ...]:
    """Say which part is missing before any library says it in its own words."""
    for part in CONFIGS:
        if not (folder / part).is_dir():
            raise BaseModelError(f"base model folder '{folder}' has no '{part}' folder")
    chosen = [
        choose_weights(part, [file.name for file in (folder / part).iterdir()])
        for part in PARTS_WITH_WEIGHTS
    ]
    for part, found in zip(PARTS_WITH_WEIGHTS, chosen, strict=True):
        if found is None:
            raise BaseModelError(f"'{folder / part}' holds no .safetensors weights to load")
    return tuple(found for found in chosen if found is not None)


def _snapshot(name: str) -> Path:
    """A hub model's folder in the cache, fetched where it is not whole."""
    cached = cached_snapshot(name)
    if cached is not None:
        try:
            _weights_of(cached)
            return cached
        except BaseModelError:
            pass  # A download that was cut short, or configs only: the rest is fetched.
    return fetch_snapshot(name, _files_to_load)


def _files_to_load(files: Collection[str]) -> Iterable[str]:
    yield from _files_of_configs(files)
    for part in PARTS_WITH_WEIGHTS:
        inside = [file.removeprefix(f"{part}/") for file in files if file.startswith(f"{part}/")]
        chosen = choose_weights(part, inside)
        if chosen is None:
            raise BaseModelError(
                f"the hub model has no .safetensors weights in '{part}', and pickles are not read"
            )
        yield from (f"{part}/{name}" for name in chosen.names)


def _files_of_configs(files: Collection[str]) -> Iterable[str]:
    """Configs, indices of shards and the tokenizer: a few MB."""
    for file in files:
        part, slash, rest = file.partition("/")
        if slash and part in CONFIGS and rest.endswith((".json", "merges.txt")):
            yield file


def _of_file(path: Path) -> Source:
    checkpoint = open_checkpoint(path)
    configs = local_configs(checkpoint) or _fetched_configs(checkpoint)
    described = read_config(configs, "unet").get("cross_attention_dim")
    if described != checkpoint.context_width:
        raise BaseModelError(
            f"the U-Net in '{path}' reads text embeddings {checkpoint.context_width} wide, and "
            f"that of '{configs}' {described}; the configs must be of the file's own family"
        )
    return Source(configs, (), checkpoint=checkpoint)


def local_configs(checkpoint: Checkpoint) -> Path | None:
    """A single file's configs on this machine: `NAME.config/`, or the hub's cache.

    Raises BaseModelError where `NAME.config/` is there and not whole.
    """
    beside = checkpoint.configs_folder
    if beside.is_dir():
        for part in CONFIGS:
            if not (beside / part).is_dir():
                raise BaseModelError(f"'{beside}' has no '{part}' folder")
        return beside
    for name in _models_alike(checkpoint):
        cached = cached_snapshot(name)
        if cached is not None and all((cached / file).is_file() for file in CONFIGS.values()):
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
        return fetch_snapshot(names[0], _files_of_configs)
    except BaseModelError as error:
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
