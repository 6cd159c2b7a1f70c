"""What a sample and an adapter cost: operations and memory, counted, not guessed.

One step of the stacked training is carried out on tensors without contents, from the U-Net's
description alone. So the numbers are of the code that trains: they follow rank, sub-network,
base model and precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lorastyle.adapters.stacked import StackedAdapters
from lorastyle.adapters.targets import layout_of
from lorastyle.errors import BaseModelError
from lorastyle.training.counting import FusedAttention, LiveBytes
from lorastyle.training.settings import TrainingSettings

CLIP_TOKENS = 77
"""Length of a text embedding of Stable Diffusion's."""
RESERVE = 0.15
"""Share of the free memory that is left alone: workspaces of cuDNN and of attention kernels,
heads that are filled up to a wider kernel, images kept on the device, and gaps between blocks."""
STATE_NUMBERS = 4
"""float32 numbers kept for each of an adapter's: itself, its gradient, Adam's two moments."""


@dataclass(frozen=True)
class SampleCost:
    """What training takes, for each sample of a step, and for each adapter of a stack."""

    forward_flops: int
    """A sample through the frozen U-Net alone. A multiplication and an addition are two
    operations; matrix products and convolutions are counted, nothing else."""
    training_flops: int
    """A sample through the U-Net and its adapter's branches, and back: gradients of the branches,
    none of frozen weights. The scores of attention are computed once: that fused kernels do so
    twice is theirs."""
    saved_bytes: int
    """Kept of a sample between the passes, without gradient checkpointing and with attention
    that does not keep its score matrix."""
    peak_bytes: int
    """Of all that a step makes, what is alive at the same time, a sample: the saved tensors, and
    what is in work beside them."""
    n_parameters: int
    """d, of an adapter."""
    state_bytes: int
    """Of an adapter, through all of training: parameters, gradient and Adam's two moments in
    float32, and a copy in the U-Net's precision where that is another."""


def sample_cost(
    config: Mapping[str, Any],
    settings: TrainingSettings,
    *,
    n_tokens: int = CLIP_TOKENS,
    dtype: torch.dtype = torch.bfloat16,
    n_adapters: int = 1,
) -> SampleCost:
    """Count one step of `n_adapters` with a sample each, and divide.

    `config` describes the U-Net as `UNet2DConditionModel.from_config` takes it; `dtype` is what
    it computes in. What a step takes grows in proportion to its samples, so it does not matter
    how many are counted. The counts are of PyTorch's eager mode; a compiled U-Net may keep less.
    Raises BaseModelError for a U-Net that cannot be trained so.
    """
    try:
        unet = _without_contents(config, dtype)
        layout = layout_of(unet, settings.rank, settings.sub_network)
        frozen, step = (_Step(unet, n_adapters, n_tokens, dtype) for _ in range(2))
        frozen.forward()
        scaling = settings.alpha / settings.rank
        with StackedAdapters(unet, layout, n_adapters, scaling=scaling) as stack:
            step.train(stack)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BaseModelError(
            f"a step of training cannot be counted from the U-Net's description: {reason}; "
            "take one of Stable Diffusion 1.x or 2.x"
        ) from error
    copied = 0 if dtype == torch.float32 else dtype.itemsize
    return SampleCost(
        forward_flops=frozen.flops // n_adapters,
        training_flops=step.flops // n_adapters,
        saved_bytes=step.memory.saved // n_adapters,
        peak_bytes=step.memory.peak // n_adapters,
        n_parameters=layout.size,
        state_bytes=layout.size * (STATE_NUMBERS * torch.float32.itemsize + copied),
    )


def adapters_that_fit(
    free_bytes: float, cost: SampleCost, samples_a_step: int, *, reserve: float = RESERVE
) -> int:
    """How many adapters can be trained together in `free_bytes`, the frozen network aside.

    `samples_a_step` is of one adapter (`settings.samples_a_step`). 0 where not even one fits.

    >>> cost = SampleCost(0, 0, saved_bytes=80, peak_bytes=90, n_parameters=1, state_bytes=10)
    >>> adapters_that_fit(1000, cost, samples_a_step=1, reserve=0.15)
    8
    """
    one = cost.state_bytes + samples_a_step * cost.peak_bytes
    return max(0, int(free_bytes * (1 - reserve) / one))


def _without_contents(config: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(config))
    # Not diffusers' own `to`, which warns of any change of precision.
    return nn.Module.to(unet, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class _Step:
    """One step of a U-Net on `n` samples, without contents; what it took so far."""

    def __init__(self, unet: nn.Module, n: int, n_tokens: int, dtype: torch.dtype) -> None:
        self._unet, self._n, self._n_tokens, self._dtype = unet, n, n_tokens, dtype
        self._products = FlopCounterMode(
            display=False, custom_mapping={torch.ops.aten.baddbmm_: _flops_of_baddbmm}
        )
        self._attention = FusedAttention()
        self.memory = LiveBytes()

    @property
    def flops(self) -> int:
        return self._products.get_total_flops() + self._attention.flops

    def forward(self) -> None:
        """Without gradients, of the U-Net as it is."""
        with torch.no_grad(), self._products:
            self._predict()

    def train(self, stack: StackedAdapters) -> None:
        """Forward with the branches of a stack, and back."""
        with self._products, self.memory:
            with self.memory.saving():
                predicted = self._predict()
            stack.backward(predicted.float().square().mean())

    def _predict(self) -> Tensor:
        settings: Any = self._unet.config
        like: dict[str, Any] = {"dtype": self._dtype, "device": "meta"}
        side = settings.sample_size
        noisy = torch.empty(self._n, settings.in_channels, side, side, **like)
        text = torch.empty(self._n, self._n_tokens, settings.cross_attention_dim, **like)
        timesteps = torch.empty(self._n, dtype=torch.int64, device="meta")
        with self._attention:
            predicted: Tensor = self._unet(
                noisy.to(memory_format=torch.channels_last), timesteps, text, return_dict=False
            )[0]
        return predicted


def _flops_of_baddbmm(
    added_to: torch.Size, left: torch.Size, right: torch.Size, **other: object
) -> int:
    """Of a product that is added to a tensor in place: PyTorch's counter passes it over."""
    return 2 * left.numel() * right[-1]
