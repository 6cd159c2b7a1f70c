"""The weights of a base model by name, read one at a time: DoRA is relative to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PARTS = ("unet", "text_encoder", "text_encoder_2")


class BaseWeights(Mapping[str, Array]):
    """The tensors of a diffusers folder as `PART.MODULE.weight`, float32.

    Nothing is read until a tensor is asked for; without the folder there are none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> Array:
        from safetensors import safe_open

        path, key = self._files[name], name.partition(".")[2]
        with safe_open(path, framework="pt") as file:
            # Through torch: NumPy has no bfloat16, in which many base models come.
            return np.asarray(file.get_tensor(key).float().numpy())

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The file that each tensor is in."""
        from safetensors import safe_open

        found: dict[str, Path] = {}
        for part in PARTS:
            for path in sorted((self._folder / part).glob("*.safetensors")):
                with safe_open(path, framework="np") as file:
                    found |= {f"{part}.{key}": path for key in file.keys()}  # noqa: SIM118
        return found
