"""Images as the base model wants them. No torch here: baselines read images, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lorastyle.errors import CorpusError
from lorastyle.pictures import read_picture


def load_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read an image as RGB, shorter side resized to ``size``, centre cropped: (size, size, 3).

    It is turned upright and laid on white first (`read_picture`). Raises CorpusError for a file
    that is not a whole image, or whose shorter side is below ``size`` pixels: enlarging would
    teach the adapter blur.
    """
    image = read_picture(path)
    shorter = min(image.size)
    if shorter < size:
        raise CorpusError(
            f"image '{path}' is {image.width} x {image.height} pixels; "
            f"its shorter side must be at least {size}"
        )
    if shorter > size:
        width = max(size, round(image.width * size / shorter))
        height = max(size, round(image.height * size / shorter))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)), np.uint8)
