"""The weights of a base model by name, read one at a time: DoRA is relative to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lorastyle.base.checkpoint import open_checkpoint
from lorastyle.base.origins import find_origins
from lorastyle.base.unet_config import unet_config
from lorastyle.base.weight_files import choose_weights

Array = npt.NDArray[Any]

PARTS = ("unet", "text_encoder", "text_encoder_2")


class _Place(NamedTuple):
    """Where a tensor is."""

    path: Path
    key: str
    index: Any
    """What of it, as it indexes a tensor."""


class BaseWeights(Mapping[str, Array]):
    """The tensors of a diffusers folder, or of a single file, as `PART.MODULE.weight`, float32.

    Nothing is read until a tensor is asked for; where there is neither there are none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, name: str) -> Array:
        from safetensors import safe_open

        place = self._places[name]
        with safe_open(place.path, framework="pt") as file:
            # Through torch: NumPy has no bfloat16, in which many base models come.
            return np.asarray(file.get_tensor(place.key)[place.index].float().numpy())

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def _places(self) -> dict[str, _Place]:
        if self._path.is_file():
            return _places_in_file(self._path)
        return _places_in_folder(self._path)


def _places_in_folder(folder: Path) -> dict[str, _Place]:
    from safetensors import safe_open

    found: dict[str, _Place] = {}
    for part in PARTS:
        inside = (folder / part).iterdir() if (folder / part).is_dir() else ()
        chosen = choose_weights(part, [file.name for file in inside])
        for name in chosen.names if chosen else ():
            path = folder / part / name
            with safe_open(path, framework="np") as file:
                for key in file.keys():  # noqa: SIM118
                    found[f"{part}.{key}"] = _Place(path, key, ...)
    return found


def _places_in_file(path: Path) -> dict[str, _Place]:
    checkpoint = open_checkpoint(path)
    return {
        f"{part}.{name}": _Place(path, origin.key, origin.index)
        for part, config in (("unet", unet_config(str(path)).values), ("text_encoder", {}))
        for name, origin in find_origins(part, checkpoint, config).items()
    }
