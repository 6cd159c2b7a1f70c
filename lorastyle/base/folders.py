"""A model in the diffusers layout, on disk or listed by the hub: its parts and what is in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from lorastyle.base.weight_files import PARTS_WITH_WEIGHTS, WeightFiles, choose_weights
from lorastyle.errors import BaseModelError
from lorastyle.file_contents import read_config as read_config_file

CONFIGS = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text_encoder": "text_encoder/config.json",
    "tokenizer": "tokenizer/tokenizer_config.json",
    "scheduler": "scheduler/scheduler_config.json",
}
"""The parts of a base model, and the file that describes each."""


def read_config(folder: Path, part: str) -> dict[str, Any]:
    """One part's config out of a diffusers folder. Raises BaseModelError."""

    def refused(reason: Exception) -> BaseModelError:
        return BaseModelError(
            f"cannot load '{part}' of base model '{folder}': no readable {CONFIGS[part]} ({reason})"
        )

    return read_config_file(folder / CONFIGS[part], refused)


def check_parts(folder: Path) -> None:
    """Say which part is missing before any library says it in its own words."""
    for part in CONFIGS:
        if not (folder / part).is_dir():
            raise BaseModelError(f"base model folder '{folder}' has no '{part}' folder")


def weights_of(folder: Path) -> tuple[WeightFiles, ...]:
    """The files that are loaded. Raises BaseModelError, naming the part that is missing."""
    check_parts(folder)
    chosen = []
    for part in PARTS_WITH_WEIGHTS:
        found = choose_weights(part, [file.name for file in (folder / part).iterdir()])
        if found is None:
            raise BaseModelError(f"'{folder / part}' holds no .safetensors weights to load")
        chosen.append(found)
    return tuple(chosen)


def has_configs(folder: Path) -> bool:
    """Whether every part is described: a download may have been cut short."""
    return all((folder / file).is_file() for file in CONFIGS.values())


def files_to_load(files: Collection[str]) -> Iterable[str]:
    """Of a repository's files, by name. Raises BaseModelError where a part has no safetensors."""
    yield from files_of_configs(files)
    for part in PARTS_WITH_WEIGHTS:
        inside = [file.removeprefix(f"{part}/") for file in files if file.startswith(f"{part}/")]
        chosen = choose_weights(part, inside)
        if chosen is None:
            raise BaseModelError(
                f"the hub model has no .safetensors weights in '{part}', and pickles are not read"
            )
        yield from (f"{part}/{name}" for name in chosen.names)


def files_of_configs(files: Collection[str]) -> Iterable[str]:
    """Configs, indices of shards and the tokenizer: a few MB."""
    for file in files:
        part, slash, rest = file.partition("/")
        if slash and part in CONFIGS and rest.endswith((".json", "merges.txt")):
            yield file
