"""Images as the base model wants them. No torch here: baselines read images, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lorastyle.errors import CorpusError


def load_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read an image as RGB, shorter side resized to ``size``, centre cropped: (size, size, 3).

    Raises CorpusError for a file that is not a whole image, or whose shorter side is below
    ``size`` pixels: enlarging would teach the adapter blur.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        # Pillow raises SyntaxError for broken PNG chunks.
        raise CorpusError(f"cannot read image '{path}': {error}") from error
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
