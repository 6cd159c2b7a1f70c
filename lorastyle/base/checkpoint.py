"""A Stable Diffusion checkpoint in a single file, as far as its header tells. No torch here.

The names are those of the original code (github.com/CompVis/stable-diffusion), which kohya's
trainers and Civitai keep: `model.diffusion_model.*` is the U-Net, `first_stage_model.*` the
autoencoder, `cond_stage_model.*` the text encoder. Its configs and its tokenizer are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lorastyle.base.known import CONTEXT_WIDTHS
from lorastyle.errors import BaseModelError
from lorastyle.file_contents import CONFIG_LIMIT

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model."
PREFIXES: Mapping[str, str] = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}

_PICKLES = {".ckpt", ".bin", ".pt", ".pth", ".pkl"}
_WEIGHT_SUFFIXES = {".safetensors", *_PICKLES}
_PREDICTION_TYPES = {"eps": "epsilon", "v": "v_prediction"}


def names_a_file(name: str | Path) -> bool:
    """Whether a base model's name can only mean a single file of weights.

    >>> names_a_file("anime.safetensors"), names_a_file("owner/name"), names_a_file("old.ckpt")
    (True, False, True)
    """
    return Path(name).suffix.lower() in _WEIGHT_SUFFIXES or Path(name).is_file()


@dataclass(frozen=True)
class Checkpoint:
    """A single file, by the names and shapes of its tensors."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]

    @cached_property
    def context_width(self) -> int:
        """Width of the text embeddings that cross-attention reads."""
        widths = {
            shape[1]
            for key, shape in self.shapes.items()
            if key.startswith(UNET) and key.endswith("attn2.to_k.weight") and len(shape) == 2
        }
        if len(widths) != 1:
            raise BaseModelError(
                f"the U-Net in '{self.path}' reads text embeddings of {len(widths)} widths; "
                "Stable Diffusion 1.x and 2.x have one"
            )
        return widths.pop()

    @property
    def family(self) -> str | None:
        """`sd1` or `sd2`, by the width of cross-attention."""
        return CONTEXT_WIDTHS.get(self.context_width)

    def keys_of(self, part: str) -> Iterator[str]:
        """Names of one part's tensors."""
        return (key for key in self.shapes if key.startswith(PREFIXES[part]))

    @property
    def configs_folder(self) -> Path:
        """Where the user may put configs and tokenizer: `NAME.config/` beside the file."""
        return self.path.with_suffix(".config")

    @cached_property
    def said_prediction_type(self) -> str | None:
        """By the original code's config beside the file, `NAME.yaml`; None without one."""
        side_car = self.path.with_suffix(".yaml")
        return _prediction_type(side_car) if side_car.is_file() else None


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a file's header. Raises BaseModelError where no base model of ours is in it."""
    if path.suffix.lower() in _PICKLES:
        raise BaseModelError(
            f"'{path}' is a pickle, which can run code when it is read; convert it to safetensors "
            "first: safetensors.torch.save_file(torch.load(FILE, weights_only=True)['state_dict'], "
            "'FILE.safetensors')"
        )
    if not path.is_file():
        raise BaseModelError(f"there is no base model file '{path}'")
    checkpoint = Checkpoint(path, _read_shapes(path))
    _refuse_others(checkpoint)
    return checkpoint


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        # It limits the header to 100 MB, and compares what it says with the file's length.
        with safe_open(path, framework="np") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BaseModelError(f"'{path}' is no whole safetensors file: {error}") from error


def _refuse_others(checkpoint: Checkpoint) -> None:
    """Say what a file is that is not a text-to-image model of 1.x or 2.x."""
    path, shapes = checkpoint.path, checkpoint.shapes
    if any(key.startswith("conditioner.embedders.") for key in shapes):
        raise BaseModelError(
            f"'{path}' is a checkpoint of SDXL; base models are Stable Diffusion 1.x and 2.x"
        )
    for part, prefix in PREFIXES.items():
        if not any(checkpoint.keys_of(part)):
            raise BaseModelError(
                f"'{path}' has no {part} ('{prefix}*') among its {len(shapes)} tensors; a base "
                "model is a whole checkpoint in the original layout, or a diffusers folder"
            )
    takes = shapes.get(f"{UNET}input_blocks.0.0.weight", (0, 0))[1]
    latents = shapes.get(f"{VAE}post_quant_conv.weight", (0, 0))[1]
    if takes and latents and takes != latents:
        raise BaseModelError(
            f"the U-Net in '{path}' takes {takes} channels, and latents have {latents}: it is made "
            "for inpainting or the like, and only text-to-image models can be a base model"
        )


def _prediction_type(side_car: Path) -> str:
    import yaml

    if side_car.stat().st_size > CONFIG_LIMIT:
        raise BaseModelError(f"'{side_car}' is larger than a model's config can be (1 MiB)")
    try:
        values: Any = yaml.safe_load(side_car.read_text("utf-8"))
        said = values["model"]["params"].get("parameterization", "eps")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(
            f"'{side_car}' is no config of the original code: it has no model.params"
        ) from error
    if said not in _PREDICTION_TYPES:
        raise BaseModelError(
            f"'{side_car}' says parameterization {said!r}; 'eps' and 'v' can be trained"
        )
    return _PREDICTION_TYPES[said]
