"""A captioner: BLIP, which says what is painted on images that nobody described.

The caption is what an image is trained with, so it must not depend on chance, on what else is
in the batch, nor on libraries that happen to be installed: beam search, and Pillow's resizing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from lorastyle.corpus.captioner_files import (
    CaptionerFiles,
    CaptionerIdentity,
    find_captioner,
)
from lorastyle.errors import CorpusError
from lorastyle.pictures import on_white, upright

if TYPE_CHECKING:
    import torch

Picture: TypeAlias = "Image.Image | npt.NDArray[np.uint8]"
"""An image of any mode, or an array (H, W, 3)."""

BATCH_SIZE = 8
SEARCH = {"num_beams": 3, "min_length": 10, "max_length": 30, "do_sample": False}
"""Lengths in tokens. The defaults of LAVIS, the library of BLIP's authors."""


@dataclass(frozen=True)
class _Parts:
    model: Any
    image_processor: Any
    tokenizer: Any


@dataclass
class Captioner:
    """Describes images in English. Pickled by name: whoever unpickles it loads it again."""

    identity: CaptionerIdentity
    device: str | None = None
    """As in `torch.device`; None: a GPU where there is one."""
    _parts: _Parts | None = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Captioner, (self.identity, self.device)

    def describe(self, images: Sequence[Picture], batch_size: int = BATCH_SIZE) -> list[str]:
        """A text for each image: upright, on white, whole.

        Raises CorpusError for an array that is no image, and where the captioner has to be loaded
        again and is not the one it was.
        """
        rgb = [_rgb(image) for image in images]
        starts = range(0, len(rgb), batch_size)
        return [
            text for start in starts for text in self._describe(rgb[start : start + batch_size])
        ]

    def _describe(self, images: Sequence[Image.Image]) -> list[str]:
        import torch

        parts = self.load()
        weights = next(parts.model.parameters())
        pixels = parts.image_processor(images=images, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            tokens = parts.model.generate(
                pixel_values=pixels.to(weights.device, weights.dtype), **SEARCH
            )
        # The first token asks for a description, and is not part of it.
        texts = parts.tokenizer.batch_decode(tokens[:, 1:], skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def load(self) -> _Parts:
        """Once; by itself before the first image. Raises CorpusError where it is another model."""
        if self._parts is None:
            files = find_captioner(self.identity.name)
            if files.identity().sha256 != self.identity.sha256:
                raise CorpusError(
                    f"captioner '{self.identity.name}' is not the same model here as where it was "
                    "first loaded; name a commit (owner/name@COMMIT), or copy the folder"
                )
            self._parts = _load(files, self.device)
        return self._parts


def load_captioner(name: str, device: str | None = None) -> Captioner:
    """A BLIP for captioning: a folder or hub id, with or without `@revision`.

    Weights are read from safetensors only, in float32 on a CPU and half precision on a GPU; no
    code that lies in the model's repository is run. Raises CorpusError, saying what is wrong.
    """
    files = find_captioner(name)
    return Captioner(files.identity(), device, _load(files, device))


def _load(files: CaptionerFiles, device: str | None) -> _Parts:
    import torch
    from transformers import BertTokenizer, BlipForConditionalGeneration, GenerationConfig
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model, report = _from_pretrained(
        BlipForConditionalGeneration,
        files,
        use_safetensors=True,
        output_loading_info=True,
        dtype=_dtype(place),
    )
    _refuse_other_weights(files, report)
    # What a repository asks for beside the search, such as a penalty, would change the captions.
    text = model.config.text_config
    model.text_decoder.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id,
        eos_token_id=text.sep_token_id,
        pad_token_id=text.pad_token_id,
    )
    # By name: BlipProcessor would take torchvision's resizing where that is installed.
    image_processor = _from_pretrained(BlipImageProcessorPil, files)
    _refuse_other_size(files, image_processor, model.config.vision_config.image_size)
    return _Parts(
        model=model.to(place).requires_grad_(False).eval(),
        image_processor=image_processor,
        tokenizer=_from_pretrained(BertTokenizer, files),
    )


def _dtype(device: torch.device) -> torch.dtype:
    import torch

    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _from_pretrained(kind: Any, files: CaptionerFiles, **settings: Any) -> Any:
    try:
        return kind.from_pretrained(
            str(files.folder), local_files_only=True, trust_remote_code=False, **settings
        )
    except Exception as error:
        # transformers raises whatever it trips over in files that are cut short or not its own.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CorpusError(f"cannot load captioner '{files.name}': {reason}") from error


def _refuse_other_weights(files: CaptionerFiles, report: dict[str, Any]) -> None:
    """What is missing would be filled with random numbers, and only a log would say so."""
    for found, lacks in (
        ("missing_keys", "lacks {} tensors that its config asks for"),
        ("unexpected_keys", "holds {} tensors that have no place in it"),
    ):
        if keys := sorted(report[found]):
            raise CorpusError(
                f"captioner '{files.name}' {lacks.format(len(keys))}, first '{keys[0]}'; it takes "
                "a BLIP for captioning (BlipForConditionalGeneration)"
            )


def _refuse_other_size(files: CaptionerFiles, image_processor: Any, side: int) -> None:
    size = image_processor.size
    shape = (size.get("height"), size.get("width"))
    if not image_processor.do_resize or shape != (side, side):
        raise CorpusError(
            f"captioner '{files.name}' sees images of {side} x {side}, and its image processor "
            f"makes them {shape[0]} x {shape[1]}; its files do not belong together"
        )


def _rgb(image: Picture) -> Image.Image:
    if isinstance(image, Image.Image):
        return on_white(upright(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise CorpusError(
            f"an image to describe is uint8 (H, W, 3), and this one {image.dtype} {image.shape}"
        )
    return Image.fromarray(image)
