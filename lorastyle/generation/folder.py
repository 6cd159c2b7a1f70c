"""Generated images as PNG files that say what they are, so that none is made twice."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lorastyle.base.sampling_settings import Sampling
from lorastyle.generation.subjects import Subject
from lorastyle.generation.wanted import Images, WantedImage
from lorastyle.runs import write_atomically, write_json

PROMPTS_FILE = "prompts.json"
_MADE_FROM = "lorastyle.made_from"


@dataclass(frozen=True)
class ImageFolder:
    """An adapter's generated images: `00.png`, `01.png`, ... and `prompts.json`.

    Each PNG carries its prompt and a digest of everything that it was made from, as text.
    """

    directory: Path
    subject: Subject
    sampling: Sampling

    def path(self, number: int) -> Path:
        return self.directory / f"{number:02d}.png"

    def missing(self, wanted: Sequence[WantedImage]) -> list[WantedImage]:
        """Those that are not there, or made from something else, or damaged."""
        return [image for image in wanted if not self._is_current(image)]

    def write(self, made: Sequence[WantedImage], pixels: Images) -> None:
        """Write images (m, H, W, 3), each whole or not at all."""
        for image, each in zip(made, pixels, strict=True):
            text = {
                "prompt": image.prompt,
                "lorastyle.adapter_id": self.subject.adapter_id,
                _MADE_FROM: self.subject.key(image, self.sampling),
            }
            # Not durable: what a power cut takes is made again.
            write_atomically(self.path(image.number), _png(each, text), durable=False)

    def read(self, wanted: Sequence[WantedImage]) -> list[Images]:
        """The pixels (H, W, 3) of images that are there."""
        from PIL import Image

        found = []
        for image in wanted:
            with Image.open(self.path(image.number)) as opened:
                found.append(np.asarray(opened.convert("RGB")))
        return found

    def describe(self, wanted: Sequence[WantedImage], base: str) -> None:
        """Write `prompts.json`: the adapter, the settings, and the images with their prompts."""
        document = {
            "adapter_id": self.subject.adapter_id,
            "artist": self.subject.artist,
            "base": base,
            "sampling": asdict(self.sampling),
            "images": [
                {
                    "file": self.path(image.number).name,
                    "number": image.number,
                    "prompt": image.prompt,
                    "made_from": self.subject.key(image, self.sampling),
                }
                for image in wanted
            ],
        }
        write_json(self.directory / PROMPTS_FILE, document, durable=False)

    def _is_current(self, image: WantedImage) -> bool:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(self.path(image.number)) as opened:
                opened.load()
                said = opened.info.get(_MADE_FROM)
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
            return False
        return bool(said == self.subject.key(image, self.sampling))


def _png(pixels: Images, text: dict[str, str]) -> bytes:
    """An image (H, W, 3) as a PNG file with these texts in it."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    chunks, content = PngInfo(), io.BytesIO()
    for key, value in text.items():
        chunks.add_itxt(key, value)  # UTF-8: prompts are in any language
    Image.fromarray(pixels).save(content, format="PNG", pnginfo=chunks)
    return content.getvalue()
