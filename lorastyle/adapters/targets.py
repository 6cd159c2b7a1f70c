"""Which Linear layers of a U-Net get a LoRA branch.

All of self-attention (attn1), cross-attention (attn2) and feed-forward (ff) in
every transformer block; `proj_in` and `proj_out` are not trained. For Stable
Diffusion 1.5 these are 160 layers, d = 5,984,256 at rank 16, as in the paper.
"""

from __future__ import annotations

from torch import nn

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.adapters.naming import TARGET, sub_network_of_name
from lorastyle.errors import BaseModelError, LayoutMismatchError
from lorastyle.records import SUB_NETWORKS


def sub_network_of(module_name: str) -> str:
    """The sub-network of a target module, by its dotted name.

    >>> sub_network_of("mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0")
    'cross_attention'
    """
    found = sub_network_of_name(module_name)
    if found is None:
        raise LayoutMismatchError(
            f"{module_name!r} is in no sub-network; targets are the Linear layers of "
            "attn1, attn2 and ff"
        )
    return found


def target_modules(unet: nn.Module, sub_network: str = "full") -> dict[str, nn.Linear]:
    """Target layers by name, in no particular order: the layout orders them."""
    if sub_network != "full" and sub_network not in SUB_NETWORKS:
        raise LayoutMismatchError(
            f"there is no sub-network {sub_network!r}; "
            f"choose one of: full, {', '.join(SUB_NETWORKS)}"
        )
    targets = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear)
        and TARGET.search(name)
        and sub_network in ("full", sub_network_of(name))
    }
    if not targets:
        raise BaseModelError(
            f"the base model has 0 Linear layers in {sub_network}; "
            "use a U-Net with transformer blocks (attn1, attn2, ff)"
        )
    return targets


def layout_of(unet: nn.Module, rank: int, sub_network: str = "full") -> AdapterLayout:
    """The layout of a LoRA of this rank on this U-Net; meta tensors will do."""
    return AdapterLayout.of_modules(
        rank,
        (
            TargetModule(name, sub_network_of(name), linear.out_features, linear.in_features)
            for name, linear in target_modules(unet, sub_network).items()
        ),
    )
