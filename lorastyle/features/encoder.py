"""What a feature's weights become: a network, and pictures as it wants to see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lorastyle.errors import FeatureError
from lorastyle.features.preprocessing import Preprocessing


@dataclass(frozen=True)
class Encoder:
    """A network from normalised pixels (m, 3, crop, crop) to features (m, dimension)."""

    network: nn.Sequential
    dimension: int
    preprocessing: Preprocessing

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of prepared images, on a GPU where there is one.

        Shapes: images (m, crop, crop, 3), result (m, dimension).
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        network = self.network.to(device)
        with torch.inference_mode():
            features = network(self.preprocessing.normalise(images, device))
        return np.asarray(features.cpu().numpy(), np.float32)

    def with_head(self, *head: nn.Module, dimension: int) -> Encoder:
        """The same network with more behind it."""
        return Encoder(nn.Sequential(*self.network, *head), dimension, self.preprocessing)


class UnitLength(nn.Module):
    """Vectors of length one; zero stays zero."""

    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=1)


def linear_head(
    where: str, tensors: Mapping[str, Tensor], weight: str, bias: str | None, width: int
) -> nn.Linear:
    """`tensors[weight] @ x + tensors[bias]`; the weight is (dimension, width).

    Raises FeatureError for tensors of other shapes.
    """
    matrix = tensors[weight]
    shift = None if bias is None else tensors[bias]
    if matrix.ndim != 2 or matrix.shape[1] != width:
        raise FeatureError(
            f"{where} has {weight!r} of {tuple(matrix.shape)}, and the network before it gives "
            f"{width} numbers; the files do not belong together"
        )
    if shift is not None and shift.shape != matrix.shape[:1]:
        raise FeatureError(
            f"{where} has {bias!r} of {tuple(shift.shape)} beside {weight!r} of "
            f"{tuple(matrix.shape)}; name another file"
        )
    with torch.device("meta"):
        head = nn.Linear(width, len(matrix), bias=shift is not None)
    state = {"weight": matrix} if shift is None else {"weight": matrix, "bias": shift}
    head.load_state_dict(state, assign=True)
    return head
