"""Families of base models: which one an adapter is for, told by names and shapes alone.

The three Stable Diffusion U-Nets are written down as a few numbers each, and their modules
generated from them, so that no model has to be loaded to know what one looks like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from lorastyle.adapters.layout import TargetModule
from lorastyle.adapters.naming import sub_network_of_name
from lorastyle.adapters.updates import ModuleUpdate
from lorastyle.errors import BaseModelError


class Block(NamedTuple):
    """One of a U-Net's blocks."""

    name: str
    width: int
    depth: int
    """Transformer blocks of each attention."""
    n_attentions: int
    inputs: tuple[int, ...]
    """Channels that each of its resnets takes."""


@dataclass(frozen=True)
class UNetPlan:
    """A U-Net of two layers a block, as far as its transformer blocks and their order go."""

    widths: tuple[int, ...]
    """Channels of each down block."""
    depths: tuple[int, ...]
    """Transformer blocks of each attention in a down block; 0 where it has none."""
    context: int
    """Width of the text embedding: what attn2.to_k and to_v take."""

    def blocks(self) -> Iterator[Block]:
        """In the order torch registers them: diffusers adds the middle last."""
        before = self.widths[0]
        for index, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            yield Block(f"down_blocks.{index}", width, depth, 2 if depth else 0, (before, width))
            before = width
        upwards = self.widths[::-1]
        for index, (width, depth) in enumerate(zip(upwards, self.depths[::-1], strict=True)):
            skipped = upwards[min(index + 1, len(upwards) - 1)]
            inputs = (before + width, 2 * width, width + skipped)
            yield Block(f"up_blocks.{index}", width, depth, 3 if depth else 0, inputs)
            before = width
        last = self.widths[-1]
        yield Block("mid_block", last, self.depths[-1] or 1, 1, (last, last))


PLANS: Mapping[str, UNetPlan] = {
    "sd1": UNetPlan((320, 640, 1280, 1280), (1, 1, 1, 0), 768),
    "sd2": UNetPlan((320, 640, 1280, 1280), (1, 1, 1, 0), 1024),
    "sdxl": UNetPlan((320, 640, 1280), (0, 2, 10), 2048),
}
FAMILIES: tuple[str, ...] = tuple(PLANS)
TEXT_WIDTHS: Mapping[int, str] = {768: "sd1", 1024: "sd2", 1280: "sdxl"}
"""Widths of the text encoders; SDXL's first is as wide as SD 1.x's."""
OTHER = "other"


class Linear(NamedTuple):
    """A Linear layer of a transformer block."""

    name: str
    out_features: int
    in_features: int


def block_modules(block: str, width: int, context: int, *, ff_first: bool = False) -> list[Linear]:
    """The ten Linear layers of a transformer block, in the order torch registers them.

    Until early 2023 diffusers registered the feed-forward before the cross-attention.
    """
    attn1, attn2 = (
        [
            Linear(f"{block}.{attention}.to_q", width, width),
            Linear(f"{block}.{attention}.to_k", width, source),
            Linear(f"{block}.{attention}.to_v", width, source),
            Linear(f"{block}.{attention}.to_out.0", width, width),
        ]
        for attention, source in (("attn1", width), ("attn2", context))
    )
    ff = [
        Linear(f"{block}.ff.net.0.proj", 8 * width, width),
        Linear(f"{block}.ff.net.2", width, 4 * width),
    ]
    return [*attn1, *ff, *attn2] if ff_first else [*attn1, *attn2, *ff]


def attention_modules(plan: UNetPlan, block: Block, *, ff_first: bool = False) -> list[Linear]:
    """The Linear layers of attn1, attn2 and ff in a block, in the order torch registers them."""
    return [
        module
        for attention in range(block.n_attentions)
        for number in range(block.depth)
        for module in block_modules(
            f"{block.name}.attentions.{attention}.transformer_blocks.{number}",
            block.width,
            plan.context,
            ff_first=ff_first,
        )
    ]


def resnet_modules(plan: UNetPlan, block: Block) -> list[Linear]:
    """The layers of a block's resnets, in the order torch registers them; of a convolution,
    inputs are channels times the kernel's nine places.
    """
    modules, width = [], block.width
    for number, into in enumerate(block.inputs):
        name = f"{block.name}.resnets.{number}"
        modules += [
            Linear(f"{name}.conv1", width, 9 * into),
            Linear(f"{name}.time_emb_proj", width, 4 * plan.widths[0]),
            Linear(f"{name}.conv2", width, 9 * width),
        ]
        if into != width:
            modules.append(Linear(f"{name}.conv_shortcut", width, into))
    return modules


def unet_modules(family: str) -> list[Linear]:
    """Every Linear layer of attn1, attn2 and ff, in the order torch registers them."""
    plan = PLANS[family]
    return [module for block in plan.blocks() for module in attention_modules(plan, block)]


def family_modules(family: str) -> list[TargetModule]:
    """The paper's targets in the U-Net of `sd1`, `sd2` or `sdxl`, as a layout takes them.

    Raises BaseModelError for any other family.

    >>> len(family_modules("sd1")), len(family_modules("sdxl"))
    (160, 700)
    """
    if family not in PLANS:
        raise BaseModelError(f"there is no family {family!r}; choose one of: {', '.join(PLANS)}")
    return [
        TargetModule(name, sub_network_of_name(name) or "", out, into)
        for name, out, into in unet_modules(family)
    ]


class Family(NamedTuple):
    """What an adapter's base model is, and how one can tell."""

    name: str
    """`sd1`, `sd2`, `sdxl` or `other`."""
    evidence: str


def family_of(updates: Sequence[ModuleUpdate], metadata: Mapping[str, str] | None = None) -> Family:
    """By the modules it changes and their shapes; by metadata only where shapes cannot tell."""
    targets = {
        update.key.module: update.shape
        for update in updates
        if update.key.network == "unet" and sub_network_of_name(update.key.module)
    }
    if targets:
        return _by_targets(targets, metadata or {})
    texts = [update for update in updates if update.key.network.startswith("text_encoder")]
    if texts and len(texts) == len(updates):
        return _by_text_encoder(texts, metadata or {})
    return Family(OTHER, "it changes no attention or feed-forward layer, which would tell")


def _by_targets(targets: Mapping[str, tuple[int, int]], metadata: Mapping[str, str]) -> Family:
    fitting = [name for name in PLANS if targets.items() <= _shapes(name).items()]
    context = {
        shape[1] for name, shape in targets.items() if name.endswith(("attn2.to_k", "attn2.to_v"))
    }
    seen = (
        f"cross-attention reads text embeddings {', '.join(map(str, sorted(context)))} wide"
        if context
        else "self-attention and feed-forward have its widths"
    )
    if len(fitting) == 1:
        return Family(fitting[0], f"{seen}, and all {len(targets)} target modules fit")
    if not fitting:
        return Family(OTHER, f"{seen}; names or shapes fit no Stable Diffusion U-Net")
    said = _by_metadata(metadata)
    if said in fitting:
        return Family(said, f"shapes fit {' and '.join(fitting)}; its metadata says which")
    return Family(OTHER, f"shapes fit {' and '.join(fitting)}, and nothing tells which")


@cache
def _shapes(family: str) -> dict[str, tuple[int, int]]:
    return {name: (out, into) for name, out, into in unet_modules(family)}


def _by_metadata(metadata: Mapping[str, str]) -> str | None:
    version = metadata.get("ss_base_model_version", "") or metadata.get(
        "modelspec.architecture", ""
    )
    if "xl" in version:
        return "sdxl"
    if "v2" in version:
        return "sd2"
    if "v1" in version:
        return "sd1"
    return {"True": "sd2", "False": "sd1"}.get(metadata.get("ss_v2", ""))


def _by_text_encoder(updates: Iterable[ModuleUpdate], metadata: Mapping[str, str]) -> Family:
    """Told by the widths of self-attention; a second text encoder is SDXL's."""
    widths, networks = set(), set()
    for update in updates:
        networks.add(update.key.network)
        if ".self_attn." in update.key.module:
            widths.add(update.shape[1])
    if "text_encoder_2" in networks:
        return Family("sdxl", "it changes a second text encoder")
    if widths == {768} and _by_metadata(metadata) == "sdxl":
        return Family("sdxl", "its text encoder is 768 wide, and its metadata says SDXL")
    if len(widths) == 1 and (width := widths.pop()) in TEXT_WIDTHS:
        return Family(TEXT_WIDTHS[width], f"its text encoder is {width} wide")
    return Family(OTHER, "its text encoder has the width of none that is known")
