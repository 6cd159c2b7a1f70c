"""Pictures as a vision transformer was trained to see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Shorter side to `resize` pixels (bicubic), the middle `crop` pixels of it, normalised.

    The same bytes as torchvision's Resize and CenterCrop of a Pillow image, which the authors of
    all these features use. transformers cuts half a pixel elsewhere where the margins are odd.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def prepare(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Smaller pictures are enlarged. Shapes: (height, width, 3) to (crop, crop, 3)."""
        height, width = picture.shape[:2]
        shorter = min(height, width)
        size = (int(self.resize * width / shorter), int(self.resize * height / shorter))
        image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
        # Python rounds halves to even; so do they.
        left, top = (round((side - self.crop) / 2) for side in size)
        return np.asarray(image.crop((left, top, left + self.crop, top + self.crop)), np.uint8)

    def normalise(self, images: NDArray[np.uint8], device: str) -> Tensor:
        """Shapes: prepared images (m, crop, crop, 3), result float32 (m, 3, crop, crop)."""
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        mean, std = (torch.tensor(values, device=device) for values in (self.mean, self.std))
        return ((pixels.float() / 255.0 - mean) / std).permute(0, 3, 1, 2).contiguous()
