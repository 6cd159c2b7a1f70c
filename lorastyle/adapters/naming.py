"""Names of modules: what part of the base model a dotted name belongs to.

No torch here: files are named and told apart without loading a model.
"""

from __future__ import annotations

import re

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
