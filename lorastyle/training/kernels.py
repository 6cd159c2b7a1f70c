"""PyTorch's own choices of kernels, for work whose shapes stay the same for thousands of steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

GRAPHS = 64
"""Sizes of stacks that a process may compile: PyTorch stops at 8, and goes on uncompiled."""


@contextmanager
def tuned_for_fixed_shapes(device: torch.device, *, compiled: bool) -> Iterator[None]:
    """On a GPU the fastest convolution is found by trying; each size of stack is compiled."""
    if compiled:
        import torch._dynamo.config as dynamo

        dynamo.recompile_limit = max(dynamo.recompile_limit, GRAPHS)
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
