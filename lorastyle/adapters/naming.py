"""Names of modules: what part of the base model a dotted name belongs to.

No torch here: files are named and told apart without loading a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable

TARGET = re.compile(r"(?:^|\.)(?:(attn[12])\.to_(?:[qkv]|out\.0)|(ff)\.net\.(?:0\.proj|2))$")
"""The Linear layers that the paper trains: attn1, attn2 and ff of every transformer block."""
_SUB_NETWORKS = {
    "attn1": "self_attention",
    "attn2": "cross_attention",
    "ff": "feed_forward",
}
OTHER_PARTS: tuple[str, ...] = ("projection", "convolution", "time", "text_encoder", "other")
"""Parts of the base model that adapters in the wild change besides the three sub-networks."""


def sub_network_of_name(module: str) -> str | None:
    """The sub-network of a U-Net module, or None where it is none of the paper's targets.

    >>> sub_network_of_name("mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0")
    'cross_attention'
    """
    found = TARGET.search(module)
    return None if found is None else _SUB_NETWORKS[found[1] or found[2]]


def part_of(network: str, module: str) -> str:
    """A sub-network of the paper, or one of `OTHER_PARTS`.

    >>> part_of("unet", "down_blocks.0.resnets.0.conv1")
    'convolution'
    """
    if network.startswith("text_encoder"):
        return "text_encoder"
    target = sub_network_of_name(module)
    if target is not None:
        return target
    if module.endswith(("proj_in", "proj_out")):
        return "projection"
    if re.search(r"(?:^|\.)(?:time_emb_proj|time_embedding\.linear_\d|add_embedding\..*)$", module):
        return "time"
    if re.search(r"(?:^|\.)(?:conv\d?|conv_in|conv_out|conv_shortcut)$", module):
        return "convolution"
    return "other"


def block_of(module: str) -> str:
    """The U-Net's block, as in `down_blocks.1`, `mid_block` or `up_blocks.3`.

    >>> block_of("up_blocks.3.attentions.2.proj_in")
    'up_blocks.3'
    """
    found = re.match(r"(?:down_blocks|up_blocks)\.\d+|mid_block", module)
    return found[0] if found else module.partition(".")[0]


def canonical_module(name: str) -> tuple[str, str] | None:
    """What diffusers or transformers call a module, whatever a LoRA file calls it.

    The name comes without the prefix that says which network it is of. Dots and underscores
    count alike, so kohya's flattened names are read by the same grammar as dotted ones; the
    names of the original (LDM, SGM) U-Net are translated. Any depth and number of blocks is
    read, with two layers a block in LDM names, as in every released model that has them.

    Returns `unet` or `text_encoder` and the dotted name; None where it is neither's.

    >>> canonical_module("down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0")
    ('unet', 'down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0')
    >>> canonical_module("input_blocks.4.1.proj_in")
    ('unet', 'down_blocks.1.attentions.0.proj_in')
    >>> canonical_module("text_model_encoder_layers_11_mlp_fc1")
    ('text_encoder', 'text_model.encoder.layers.11.mlp.fc1')
    """
    flat = name.replace(".", "_")
    for network, reader in _READERS:
        module = reader(flat)
        if module is not None:
            return network, module
    return None


_IN_ATTENTION = re.compile(
    r"(?P<projection>proj_in|proj_out|norm)"
    r"|transformer_blocks_(?P<depth>\d+)_(?:"
    r"(?P<attention>attn[12])_(?:processor_)?to_(?P<to>[qkv]|out)(?:_0)?"
    r"|ff_net_(?P<ff>0_proj|2)"
    r"|(?P<norm>norm[123]))",
    re.ASCII,
)
"""Of a Transformer2DModel. Attention processors of old diffusers stand between attn1 and to_q."""
_TOP = re.compile(r"(conv_in|conv_out|conv_norm_out)|(time_embedding|add_embedding)_(linear_[12])")
_BLOCK = re.compile(
    r"(?:(?P<stage>down_blocks|up_blocks)_(?P<index>\d+)|(?P<mid>mid_block))"
    r"_(?P<kind>attentions|resnets|downsamplers|upsamplers)_(?P<number>\d+)_(?P<rest>\w+)",
    re.ASCII,
)
_IN_RESNET = frozenset({"conv1", "conv2", "time_emb_proj", "conv_shortcut", "norm1", "norm2"})

_LDM_BLOCK = re.compile(
    r"(?:(?P<stage>input|output)_blocks_(?P<index>\d+)_|middle_block_)(?P<number>\d+)_(?P<rest>\w+)",
    re.ASCII,
)
_LDM_LAYERS = 3
"""Entries of `input_blocks`, and of `output_blocks`, for each block of diffusers."""
_LDM_RESNET = {
    "in_layers_0": "norm1",
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_0": "norm2",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}
_LDM_TOP = {
    "input_blocks_0_0": "conv_in",
    "out_0": "conv_norm_out",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding.linear_1",
    "time_embed_2": "time_embedding.linear_2",
    "label_emb_0_0": "add_embedding.linear_1",
    "label_emb_0_2": "add_embedding.linear_2",
}

_TEXT_ENCODER = re.compile(
    r"(?:text_model_)?(?:encoder_layers_(?P<layer>\d+)_(?:"
    r"self_attn_(?:to_)?(?P<attention>[qkv]|out)(?:_proj)?|mlp_(?P<mlp>fc[12])"
    r"|(?P<norm>layer_norm[12]))"
    r"|embeddings_(?P<embedding>token_embedding|position_embedding)"
    r"|(?P<final>final_layer_norm))|(?P<projection>text_projection)",
    re.ASCII,
)
"""Of transformers' CLIPTextModel, whose newest release leaves `text_model` out of names."""


def _unet_module(flat: str) -> str | None:
    top = _TOP.fullmatch(flat)
    if top is not None:
        return top[1] or f"{top[2]}.{top[3]}"
    found = _BLOCK.fullmatch(flat)
    if found is None:
        return None
    stage = found["mid"] or f"{found['stage']}.{found['index']}"
    inner = _in_part(found["kind"], found["rest"])
    return None if inner is None else f"{stage}.{found['kind']}.{found['number']}.{inner}"


def _in_part(kind: str, rest: str) -> str | None:
    """The name within one of a block's parts."""
    if kind == "attentions":
        return _in_attention(rest)
    if kind == "resnets":
        return rest if rest in _IN_RESNET else None
    return "conv" if rest == "conv" else None


def _in_attention(rest: str) -> str | None:
    found = _IN_ATTENTION.fullmatch(rest)
    if found is None:
        return None
    if found["projection"]:
        return found["projection"]
    block = f"transformer_blocks.{found['depth']}"
    if found["attention"]:
        to = "to_out.0" if found["to"] == "out" else f"to_{found['to']}"
        return f"{block}.{found['attention']}.{to}"
    if found["norm"]:
        return f"{block}.{found['norm']}"
    return f"{block}.ff.net.{found['ff'].replace('_', '.')}"


def _ldm_module(flat: str) -> str | None:
    if flat in _LDM_TOP:
        return _LDM_TOP[flat]
    found = _LDM_BLOCK.fullmatch(flat)
    if found is None:
        return None
    number, rest = int(found["number"]), found["rest"]
    if found["stage"] is None:
        where = {0: ("resnets", 0), 1: ("attentions", 0), 2: ("resnets", 1)}.get(number)
        return None if where is None else _ldm_part("mid_block", *where, rest)
    index = int(found["index"]) - (found["stage"] == "input")
    if index < 0:
        return None
    block, layer = divmod(index, _LDM_LAYERS)
    stage = "down_blocks" if found["stage"] == "input" else "up_blocks"
    if rest in ("op", "conv"):
        kind = "downsamplers" if stage == "down_blocks" else "upsamplers"
        return f"{stage}.{block}.{kind}.0.conv"
    part = {0: "resnets", 1: "attentions"}.get(number)
    return None if part is None else _ldm_part(f"{stage}.{block}", part, layer, rest)


def _ldm_part(block: str, kind: str, number: int, rest: str) -> str | None:
    inner = _in_attention(rest) if kind == "attentions" else _LDM_RESNET.get(rest)
    return None if inner is None else f"{block}.{kind}.{number}.{inner}"


def _text_encoder_module(flat: str) -> str | None:
    found = _TEXT_ENCODER.fullmatch(flat)
    if found is None:
        return None
    if found["projection"]:
        return found["projection"]
    if found["final"]:
        return "text_model.final_layer_norm"
    if found["embedding"]:
        return f"text_model.embeddings.{found['embedding']}"
    layer = f"text_model.encoder.layers.{found['layer']}"
    if found["attention"]:
        return f"{layer}.self_attn.{found['attention']}_proj"
    return f"{layer}.mlp.{found['mlp']}" if found["mlp"] else f"{layer}.{found['norm']}"


_READERS: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("unet", _unet_module),
    ("unet", _ldm_module),
    ("text_encoder", _text_encoder_module),
)
