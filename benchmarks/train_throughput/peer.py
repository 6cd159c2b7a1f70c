"""The peer: diffusers' U-Net with PEFT's LoRA layers, one adapter after the other.

As lean as a loop of PyTorch's own parts is: latents and texts lie on the device, noise is drawn
there, the base is frozen, Adam is fused, nothing is read back, logged or moved in a step. With
the paper's batch of one image this is what scripts for DreamBooth LoRA do at best.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from lorastyle.adapters.layout import AdapterLayout, FactorKey, Vector
from lorastyle.training.batches import Batch, TrainingItem
from lorastyle.training.settings import TrainingSettings

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]
"""Endings of the 160 Linear layers that the paper trains."""


class Peer:
    """A U-Net with one PEFT adapter in float32 at least, over weights shared with `unet`.

    `compiled`: a mode of `torch.compile`, "" for none.
    """

    def __init__(
        self, unet: Any, scheduler: Any, rank: int, *, autocast: bool = False, compiled: str = ""
    ) -> None:
        self._scheduler = scheduler
        self._autocast = autocast
        self._unet = with_shared_weights(unet)
        self._unet.requires_grad_(False).eval()
        self._unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank / 2, target_modules=TARGETS))
        self._unet.to(memory_format=torch.channels_last)
        self.parameters = [p for p in self._unet.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        self._forward = (
            torch.compile(self._unet, mode=compiled, dynamic=False) if compiled else self._unet
        )

    def train(
        self,
        batches: Callable[[int], Batch],
        settings: TrainingSettings,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        """Make `settings.n_steps` steps on what `batches` gives for each."""
        optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate, fused=True)
        optimizer.zero_grad(set_to_none=True)
        for step in range(settings.n_steps):
            self._loss(batches(step)).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.parameters, settings.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if on_step is not None:
                on_step(step + 1)

    def load(self, factors: Mapping[FactorKey, Vector]) -> None:
        """Start from these factors."""
        weights = self._factors()
        for key, values in factors.items():
            weights[key].data.copy_(torch.from_numpy(values))

    def vector(self, layout: AdapterLayout) -> Vector:
        """The adapter in layout order, (d,) float32."""
        factors = {key: weight.detach().float().cpu() for key, weight in self._factors().items()}
        return layout.flatten({key: weight.numpy() for key, weight in factors.items()})

    def _loss(self, batch: Batch) -> Tensor:
        noisy = self._scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        dtype = self._unet.conv_in.weight.dtype
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=self._autocast):
            predicted = self._forward(
                noisy.to(dtype, memory_format=torch.channels_last),
                batch.timesteps,
                batch.text.to(dtype),
                return_dict=False,
            )[0]
        return mse_loss(predicted.to(batch.noise.dtype), batch.noise)

    def _factors(self) -> dict[FactorKey, nn.Parameter]:
        return {
            (name, factor): getattr(module, f"lora_{factor}")["default"].weight
            for name, module in self._unet.named_modules()
            if hasattr(module, "lora_A")
            for factor in "AB"
        }


class DeviceBatches:
    """The samples of one adapter's steps, images in a shuffled order, noise drawn on the device."""

    def __init__(
        self, item: TrainingItem, settings: TrainingSettings, n_timesteps: int, device: torch.device
    ) -> None:
        self._mean, self._std, self._text = (
            torch.from_numpy(array).to(device)
            for array in (item.latents_mean, item.latents_std, item.text)
        )
        n_samples = settings.n_steps * settings.batch_size
        n_epochs = -(-n_samples // len(item.text))
        order = torch.cat([torch.randperm(len(item.text)) for _ in range(n_epochs)])
        self._order = order[:n_samples].view(settings.n_steps, settings.batch_size).to(device)
        self._n_timesteps, self._batch_size = n_timesteps, settings.batch_size
        self._weights = torch.full((1, settings.batch_size), 1 / settings.batch_size, device=device)

    def __call__(self, step: int) -> Batch:
        chosen = self._order[step]
        mean = self._mean[chosen]
        return Batch(
            latents=torch.addcmul(mean, self._std[chosen], torch.randn_like(mean)),
            noise=torch.randn_like(mean),
            timesteps=torch.randint(self._n_timesteps, (self._batch_size,), device=mean.device),
            text=self._text[chosen],
            weights=self._weights,
        )


def with_shared_weights(unet: nn.Module) -> Any:
    """A copy whose parameters are the very ones of `unet`: no second gigabyte of them."""
    return copy.deepcopy(unet, {id(parameter): parameter for parameter in unet.parameters()})


@contextmanager
def fastest_settings(device: torch.device) -> Iterator[None]:
    """While it is open, PyTorch's switches that help the peer on a GPU are on; no others.

    cuDNN tries its convolutions; float32 products, as PEFT's branches are without autocast, use
    tensor cores.
    """
    if device.type != "cuda":
        yield
        return
    benchmark, precision = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        torch.set_float32_matmul_precision(precision)
