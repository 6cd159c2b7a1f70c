"""Image files as they are meant to be seen: upright, on white, 8 bits a colour.

What is hashed, described and trained on must be one picture, so it is made here alone.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from lorastyle.errors import CorpusError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 80_000_000
"""Larger images are refused: a small file may claim any size and fill the memory."""

_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation that Exif knows; 1 needs nothing."""


def read_picture(path: Path, content: bytes | None = None) -> Image.Image:
    """The first frame of an image file, decoded whole: RGB, upright, on white.

    With `content`, of the file's bytes that somebody else has read. Raises CorpusError for what
    is not a whole image in one of FORMATS, or is over MAX_PIXELS.
    """
    try:
        file = path if content is None else io.BytesIO(content)
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} is over {MAX_PIXELS} pixels")
            return on_white(upright(image))
    # Decoders raise whatever their format's parser happens to trip over.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(f"cannot read image '{path}': {reason}") from error


def upright(image: Image.Image) -> Image.Image:
    """The image decoded and turned as its Exif orientation says, where that can be read."""
    # First of all: Pillow turns a TIFF itself as it is decoded, and takes the orientation away.
    image.load()
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def on_white(image: Image.Image) -> Image.Image:
    """The image as RGB: what is transparent shows white, and of 16 bits the upper eight are kept.

    Pillow by itself would show the colours that transparency hides, and all of a 16-bit picture
    above 255 as white. Raises ValueError for 32 bits a pixel, whose range is not known.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits a pixel, of unknown range; save it with 8 or 16")
    if not image.has_transparency_data:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(seen, mask=seen)
    return white


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Unlike `ImageOps.exif_transpose`, does not fail over other tags that are broken."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:
        # Whatever a stranger wrote there; without it the pixels are still whole.
        return None
