"""How published files name the parts of a vision transformer, and that they hold all of them.

Nothing is skipped and nothing filled in: a file whose names are not exactly those of its layout is
refused with the names that are missing and those that have no place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lorastyle.errors import FeatureError
from lorastyle.features.vision_transformer import Activation, Architecture, VisionTransformer

MAX_IMAGE_SIZE = 1024
"""Pixels of a side; what claims more is no feature that anyone published."""
HEAD_WIDTH = 64
"""Of attention, where a file has no config: true of CLIP's, DINO's and timm's S, B and L."""
_N_NAMED = 4
"""Names in an error."""


@dataclass(frozen=True)
class Layout:
    """A naming. `#` stands for the block's number, `*` for weight and bias."""

    names: Mapping[str, tuple[str, ...]]
    """From our names to the file's; several are stacked, in that order."""
    activation: Activation = "gelu"
    epsilon: float = 1e-6
    """Both where a file has no config to say it."""

    def origins(self, n_layers: int, prefix: str = "") -> dict[str, tuple[str, ...]]:
        """Each tensor of ours with the names of those in the file, for so many blocks."""
        found: dict[str, tuple[str, ...]] = {}
        for ours, theirs in self.names.items():
            for block in map(str, range(n_layers) if "#" in ours else range(1)):
                for kind in ("weight", "bias") if "*" in ours else ("",):
                    found[_fill(ours, block, kind)] = tuple(
                        prefix + _fill(one, block, kind) for one in theirs
                    )
        return found

    def keys(self, n_layers: int, prefix: str = "") -> list[str]:
        """All names in a file of so many blocks."""
        return [name for names in self.origins(n_layers, prefix).values() for name in names]

    def count_layers(self, keys: Iterable[str], prefix: str = "") -> int:
        """Blocks that a file has; a gap in their numbers shows as tensors that are missing."""
        (name,) = self.names["blocks.#.norm_1.*"]
        pattern = re.escape(prefix + _fill(name, "#", "weight")).replace(r"\#", r"\d+")
        return max(1, sum(re.fullmatch(pattern, key) is not None for key in keys))


def _fill(name: str, block: str, kind: str) -> str:
    return name.replace("#", block).replace("*", kind)


_HUB_CLIP_BLOCK = "vision_model.encoder.layers.#"
HUB_CLIP = Layout(
    {
        "patch.weight": ("vision_model.embeddings.patch_embedding.weight",),
        "class_token": ("vision_model.embeddings.class_embedding",),
        "positions": ("vision_model.embeddings.position_embedding.weight",),
        "norm_before.*": ("vision_model.pre_layrnorm.*",),
        "blocks.#.norm_1.*": (f"{_HUB_CLIP_BLOCK}.layer_norm1.*",),
        "blocks.#.qkv.*": tuple(f"{_HUB_CLIP_BLOCK}.self_attn.{one}_proj.*" for one in "qkv"),
        "blocks.#.out.*": (f"{_HUB_CLIP_BLOCK}.self_attn.out_proj.*",),
        "blocks.#.norm_2.*": (f"{_HUB_CLIP_BLOCK}.layer_norm2.*",),
        "blocks.#.mlp_in.*": (f"{_HUB_CLIP_BLOCK}.mlp.fc1.*",),
        "blocks.#.mlp_out.*": (f"{_HUB_CLIP_BLOCK}.mlp.fc2.*",),
        "norm_after.*": ("vision_model.post_layernorm.*",),
    }
)
"""CLIP as transformers writes it."""

OPENAI_CLIP = Layout(
    {
        "patch.weight": ("conv1.weight",),
        "class_token": ("class_embedding",),
        "positions": ("positional_embedding",),
        "norm_before.*": ("ln_pre.*",),
        "blocks.#.norm_1.*": ("transformer.resblocks.#.ln_1.*",),
        "blocks.#.qkv.*": ("transformer.resblocks.#.attn.in_proj_*",),
        "blocks.#.out.*": ("transformer.resblocks.#.attn.out_proj.*",),
        "blocks.#.norm_2.*": ("transformer.resblocks.#.ln_2.*",),
        "blocks.#.mlp_in.*": ("transformer.resblocks.#.mlp.c_fc.*",),
        "blocks.#.mlp_out.*": ("transformer.resblocks.#.mlp.c_proj.*",),
        "norm_after.*": ("ln_post.*",),
    },
    activation="quick_gelu",
    epsilon=1e-5,
)
"""The image half of CLIP as OpenAI's code names it (github.com/openai/CLIP), and CSD's with it."""

_HUB_VIT_BLOCK = "encoder.layer.#"
HUB_VIT = Layout(
    {
        "patch.*": ("embeddings.patch_embeddings.projection.*",),
        "class_token": ("embeddings.cls_token",),
        "positions": ("embeddings.position_embeddings",),
        "blocks.#.norm_1.*": (f"{_HUB_VIT_BLOCK}.layernorm_before.*",),
        "blocks.#.qkv.*": tuple(
            f"{_HUB_VIT_BLOCK}.attention.attention.{one}.*" for one in ("query", "key", "value")
        ),
        "blocks.#.out.*": (f"{_HUB_VIT_BLOCK}.attention.output.dense.*",),
        "blocks.#.norm_2.*": (f"{_HUB_VIT_BLOCK}.layernorm_after.*",),
        "blocks.#.mlp_in.*": (f"{_HUB_VIT_BLOCK}.intermediate.dense.*",),
        "blocks.#.mlp_out.*": (f"{_HUB_VIT_BLOCK}.output.dense.*",),
        "norm_after.*": ("layernorm.*",),
    }
)
"""A ViTModel as transformers writes it."""

TIMM_VIT = Layout(
    {
        "patch.*": ("patch_embed.proj.*",),
        "class_token": ("cls_token",),
        "positions": ("pos_embed",),
        "blocks.#.norm_1.*": ("blocks.#.norm1.*",),
        "blocks.#.qkv.*": ("blocks.#.attn.qkv.*",),
        "blocks.#.out.*": ("blocks.#.attn.proj.*",),
        "blocks.#.norm_2.*": ("blocks.#.norm2.*",),
        "blocks.#.mlp_in.*": ("blocks.#.mlp.fc1.*",),
        "blocks.#.mlp_out.*": ("blocks.#.mlp.fc2.*",),
        "norm_after.*": ("norm.*",),
    }
)
"""As timm names it, and DINO's own files (github.com/facebookresearch/dino) with it."""


def refuse_other_keys(
    where: str, found: Collection[str], names: Collection[str], heads: Collection[str] = ()
) -> None:
    """Raise FeatureError unless a file has exactly the tensors of its network and of its heads."""
    wanted = {*names, *heads}
    missing, unexpected = sorted(wanted - set(found)), sorted(set(found) - wanted)
    if missing or unexpected:
        raise FeatureError(
            f"{where} is not of the layout it should have: of {len(wanted)} tensors "
            f"{len(missing)} are missing{_named(missing)}, and {len(unexpected)} unexpected"
            f"{_named(unexpected)}; name another file"
        )


def _named(keys: list[str]) -> str:
    if not keys:
        return ""
    shown = ", ".join(repr(key[:80]) for key in keys[:_N_NAMED])
    return f" ({shown}{', ...' if len(keys) > _N_NAMED else ''})"


def architecture_by_shapes(
    where: str, layout: Layout, tensors: Mapping[str, Tensor], prefix: str = ""
) -> Architecture:
    """Of a file without a config, whose keys have been checked. Raises FeatureError."""
    n_layers = layout.count_layers(tensors, prefix)
    origins = layout.origins(n_layers, prefix)
    patch, positions, mlp = (
        tensors[origins[name][0]]
        for name in ("patch.weight", "positions", "blocks.0.mlp_in.weight")
    )
    fits = patch.ndim == 4 and positions.ndim in (2, 3) and mlp.ndim == 2
    if not fits or patch.shape[0] % HEAD_WIDTH or 0 in (*patch.shape, *mlp.shape):
        raise FeatureError(
            f"{where} has a patch embedding of {tuple(patch.shape)}, positions of "
            f"{tuple(positions.shape)} and a perceptron of {tuple(mlp.shape)}; it takes "
            "(width, 3, size, size), (patches + 1, width) and (any, width), of a width that is a "
            f"multiple of {HEAD_WIDTH}"
        )
    width, patch_size = patch.shape[0], patch.shape[2]
    return Architecture(
        width=width,
        n_layers=n_layers,
        n_heads=width // HEAD_WIDTH,
        mlp_width=mlp.shape[0],
        patch_size=patch_size,
        image_size=math.isqrt(max(0, positions.shape[-2] - 1)) * patch_size,
        activation=layout.activation,
        epsilon=layout.epsilon,
        has_norm_before="norm_before.*" in layout.names,
        has_patch_bias="patch.*" in layout.names,
    )


def build_transformer(
    where: str,
    layout: Layout,
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    prefix: str = "",
) -> VisionTransformer:
    """The network with a file's weights in it, whose keys have been checked.

    Raises FeatureError, naming the first, for a tensor of another shape.
    """
    image_size, patch_size = architecture.image_size, architecture.patch_size
    if not 0 < image_size <= MAX_IMAGE_SIZE or image_size % patch_size:
        raise FeatureError(
            f"{where} is of a network for images of {image_size} pixels a side in patches of "
            f"{patch_size}; features see whole patches, and {MAX_IMAGE_SIZE} pixels at most"
        )
    with torch.device("meta"):
        network = VisionTransformer(architecture)
    origins = layout.origins(architecture.n_layers, prefix)
    state: dict[str, Tensor] = {}
    for ours, empty in network.state_dict().items():
        names = origins[ours]
        shape = (empty.shape[0] // len(names), *empty.shape[1:])
        parts = [
            _part(where, name, tensors[name], shape, is_patch=ours == "patch.weight")
            for name in names
        ]
        state[ours] = parts[0] if len(parts) == 1 else torch.cat(parts)
    network.load_state_dict(state, strict=True, assign=True)
    return network


def _part(
    where: str, name: str, tensor: Tensor, shape: tuple[int, ...], *, is_patch: bool
) -> Tensor:
    found = tuple(tensor.shape)
    # Leading ones are broadcast in the published code; a patch is a convolution's kernel there.
    while len(found) > len(shape) and found[0] == 1:
        found = found[1:]
    if is_patch and len(found) == 4 and found[2] == found[3]:
        found = (found[0], math.prod(found[1:]))
    if found != shape:
        raise FeatureError(
            f"{where} has {name!r} of {tuple(tensor.shape)}, and by its other tensors or its "
            f"config it is {shape}; name another file"
        )
    return tensor.reshape(shape)
