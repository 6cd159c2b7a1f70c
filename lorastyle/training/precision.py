"""What the frozen network computes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lorastyle.base.loading import BaseModel


def open_base(name: str, precision: str) -> BaseModel:
    """A base model as training has it: on the GPU if there is one, its U-Net in `compute_dtype`.

    The U-Net alone: encoders run once an image, and their rounding would stay in what is kept.
    Raises BaseModelError where there is no such base model.
    """
    from lorastyle.base.loading import load_base

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = load_base(name, device=device)
    cast(base.unet, compute_dtype(precision, device))
    return base


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """`float32` or `bfloat16`; `auto` is bfloat16 on GPUs that multiply in it.

    Adapters, their gradients and Adam's state are float32 whatever this says. float16 is no
    choice: its range needs a loss scale, and one scale for a stack lets an adapter that overflows
    stop all others.
    """
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    is_native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if is_native else torch.float32


def cast(network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Have a frozen network compute in `dtype`, in place."""
    # Not network.to: diffusers' own warns of modules to be kept in float32, even of none.
    torch.nn.Module.to(network, dtype)
