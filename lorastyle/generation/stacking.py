"""Adapters of any ranks and modules side by side in one U-Net.

They get one layout: the modules that any of them changes, at the highest rank. What an adapter
lacks of it is zero, and its scaling is folded into `lora_B`; neither changes its update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from torch import nn

from lorastyle.adapters.layout import AdapterLayout, TargetModule, Vector
from lorastyle.adapters.stacked import StackedAdapters
from lorastyle.adapters.targets import sub_network_of, target_modules
from lorastyle.adapters.updates import Adapter
from lorastyle.errors import LayoutMismatchError


@contextmanager
def adapters_on(unet: nn.Module, adapters: Sequence[Adapter]) -> Iterator[None]:
    """The U-Net with K adapters: of a batch of K * S samples, S in turn see each.

    On exit it is what it was. Adapters without an update leave it as it is. Raises
    LayoutMismatchError, naming adapter and module, for one that changes anything but the U-Net's
    attention and feed-forward layers.
    """
    layout = common_layout(unet, adapters)
    if layout is None:
        yield
        return
    with StackedAdapters(unet, layout, len(adapters), scaling=1.0) as stack:
        for k, adapter in enumerate(adapters):
            stack.load(k, stacked_vector(layout, adapter))
        yield


def common_layout(unet: nn.Module, adapters: Sequence[Adapter]) -> AdapterLayout | None:
    """The smallest layout with room for all of them; None where none has an update."""
    linears = target_modules(unet)
    modules = set()
    for adapter in adapters:
        for key, update in adapter.updates.items():
            linear = linears.get(key.module) if key.network == "unet" else None
            if linear is None:
                raise LayoutMismatchError(
                    f"{adapter.name!r} changes {str(key)!r}, which is none of the base model's "
                    f"{len(linears)} attention and feed-forward layers; leave such modules out "
                    "with `Adapter.only`"
                )
            if update.shape != tuple(linear.weight.shape):
                raise LayoutMismatchError(
                    f"module {str(key)!r} of {adapter.name!r} is {update.shape}, the base "
                    f"model's is {tuple(linear.weight.shape)}; use the base model it was made for"
                )
            modules.add(
                TargetModule(
                    key.module, sub_network_of(key.module), linear.out_features, linear.in_features
                )
            )
    return AdapterLayout.of_modules(max(map(rank_of, adapters)), modules) if modules else None


def stacked_vector(layout: AdapterLayout, adapter: Adapter) -> Vector:
    """The adapter in this layout (d,), for a scaling of 1."""
    vector = np.zeros(layout.size, np.float32)
    factors = layout.unflatten(vector)
    for key, update in adapter.updates.items():
        factors[key.module, "A"][: update.rank] = update.lora_A
        factors[key.module, "B"][:, : update.rank] = update.lora_B * np.float32(update.scaling)
    return vector


def rank_of(adapter: Adapter) -> int:
    """The highest rank of its updates; 0 where it has none."""
    return max((update.rank for update in adapter.updates.values()), default=0)
