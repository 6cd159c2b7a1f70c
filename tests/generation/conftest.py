"""A tiny base model, and adapters with updates large enough to be seen in an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from lorastyle.adapters.targets import target_modules
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.base.loading import BaseModel, load_base


@pytest.fixture(scope="package")
def base(tiny_base: Path) -> BaseModel:
    return load_base(tiny_base)


@pytest.fixture(scope="package")
def make_adapter() -> Callable[..., Adapter]:
    """A random adapter of some sub-network's layers; `alpha` in place of rank is the scaling."""

    def make(
        unet: nn.Module, rank: int, seed: int, sub_network: str = "full", scaling: float = 0.5
    ) -> Adapter:
        rng = np.random.default_rng([seed, rank])
        updates = []
        for name, linear in sorted(target_modules(unet, sub_network).items()):
            A = rng.standard_normal((rank, linear.in_features)) / np.sqrt(linear.in_features)
            B = rng.standard_normal((linear.out_features, rank)) / np.sqrt(rank)
            key = ModuleKey("unet", name)
            updates.append(ModuleUpdate(key, A.astype("f4"), B.astype("f4"), scaling))
        return Adapter.of(f"adapter-{seed}", updates)

    return make
