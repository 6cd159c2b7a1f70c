"""The one network behind CLIP, DINO, CSD and ALADIN-ViT: a vision transformer.

Their files differ in names (`layouts`) and in the few choices of `Architecture`, so one network
here serves them all. It depends on torch alone: features of a run do not move with an upgrade.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["gelu", "quick_gelu"]


@dataclass(frozen=True)
class Architecture:
    """What a vision transformer is, besides its weights."""

    width: int
    n_layers: int
    n_heads: int
    mlp_width: int
    patch_size: int
    image_size: int
    """Pixels of a side."""
    activation: Activation
    epsilon: float
    """Of the layer norms."""
    has_norm_before: bool
    """CLIP normalises once more before the first block."""
    has_patch_bias: bool

    @property
    def n_positions(self) -> int:
        """Patches, and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


class VisionTransformer(nn.Module):
    """Image to class token, normalised once more after the last block.

    Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words".
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        one, width = architecture, architecture.width
        self.patch_size = one.patch_size
        self.patch = nn.Linear(3 * one.patch_size**2, width, bias=one.has_patch_bias)
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(one.n_positions, width))
        self.norm_before = (
            nn.LayerNorm(width, one.epsilon) if one.has_norm_before else nn.Identity()
        )
        self.blocks = nn.Sequential(*(_Block(one) for _ in range(one.n_layers)))
        self.norm_after = nn.LayerNorm(width, one.epsilon)

    def forward(self, pixels: Tensor) -> Tensor:
        """Shapes: pixels (m, 3, size, size), result (m, width)."""
        # A product, not a convolution: on GPUs convolutions are rounded to TF32 by default.
        patches = self.patch(_patches(pixels, self.patch_size))
        first = self.class_token.expand(len(pixels), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positions
        tokens = self.blocks(self.norm_before(tokens))
        return torch.as_tensor(self.norm_after(tokens[:, 0]))


class _Block(nn.Module):
    """Attention, then a perceptron of two layers, each beside what it changes."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        one, width = architecture, architecture.width
        self.n_heads = one.n_heads
        self.is_quick = one.activation == "quick_gelu"
        self.norm_1 = nn.LayerNorm(width, one.epsilon)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, one.epsilon)
        self.mlp_in = nn.Linear(width, one.mlp_width)
        self.mlp_out = nn.Linear(one.mlp_width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._attend(self.norm_1(tokens))
        return tokens + torch.as_tensor(
            self.mlp_out(self._activate(self.mlp_in(self.norm_2(tokens))))
        )

    def _attend(self, tokens: Tensor) -> Tensor:
        # To (3, m, heads, tokens, width of a head).
        parts = self.qkv(tokens).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return torch.as_tensor(self.out(mixed.transpose(1, 2).flatten(2)))

    def _activate(self, values: Tensor) -> Tensor:
        if self.is_quick:  # As OpenAI's CLIP was trained, and only that.
            return values * torch.sigmoid(1.702 * values)
        return nn.functional.gelu(values)


def _patches(pixels: Tensor, size: int) -> Tensor:
    """Squares row by row, each as a convolution's kernel lies: (m, n, 3 * size * size)."""
    m, channels, height, width = pixels.shape
    grid = pixels.reshape(m, channels, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(m, -1, channels * size * size)
