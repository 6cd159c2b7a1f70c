"""A small U-Net with every kind of layer, and what a file's update has to be."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

SMALL = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}


@pytest.fixture
def unet():
    """Random weights, the same each time."""
    torch.manual_seed(0)
    return UNet2DConditionModel(**SMALL).requires_grad_(False).eval()


@pytest.fixture
def shake():
    """Gives every trainable parameter values of some size, so that no update is zero."""

    def apply(network):
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in sorted(network.named_parameters()):
                if parameter.requires_grad and "magnitude" not in name:
                    noise = torch.rand(parameter.shape, generator=generator) - 0.5
                    parameter.copy_(noise.to(parameter.dtype))
        return network

    return apply


@pytest.fixture
def same_updates():
    """Asserts that an adapter's updates are these matrices, module for module."""

    def check(adapter, wanted, tolerance=1e-5, network="unet"):
        found = {k.module: u for k, u in adapter.updates.items() if k.network == network}
        assert found.keys() == wanted.keys()
        for module, matrix in wanted.items():
            flat = matrix.reshape(len(matrix), -1).astype(np.float64)
            error = np.linalg.norm(found[module].delta() - flat)
            assert error <= tolerance * np.linalg.norm(flat), (module, error)

    return check
