"""What all contestants train: a frozen U-Net, and images and captions as its encoders see them.

Speed does not ask what is in a latent, so that they are random numbers of the right shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

import lorastyle.base
from benchmarks.train_throughput.peer import Peer
from benchmarks.train_throughput.records import N_STEPS, Subject
from lorastyle.adapters.layout import AdapterLayout
from lorastyle.adapters.targets import layout_of
from lorastyle.base.known import published_unet
from lorastyle.records import AdapterSpec, Role
from lorastyle.training.batches import TrainingItem
from lorastyle.training.precision import compute_dtype

N_IMAGES = 8
"""Of each adapter: no more than an order for the samples to come in."""
N_TOKENS = {"miniature": 20, "sd15": 77}
MINIATURE = Path(lorastyle.base.__file__).parent / "miniature" / "unet"


@dataclass(frozen=True)
class Settings:
    """What `lorastyle.training.settings.TrainingSettings` asks for; the paper's where it says."""

    rank: int
    batch_size: int
    n_steps: int = N_STEPS
    learning_rate: float = 5e-4
    max_grad_norm: float = 1.0
    sub_network: str = "full"
    optimizer: Any = "adam"
    weight_decay: float = 0.0
    prior_weight: float = 0.0
    prior_batch: Any = "interleaved"
    checkpoint_every: int = 0

    @property
    def alpha(self) -> float:
        return self.rank / 2


@dataclass
class Workbench:
    """A U-Net on its device, the images of any number of adapters, and peers once made."""

    unet: UNet2DConditionModel
    rank: int
    n_tokens: int
    peers: dict[tuple[bool, str], Peer] = field(default_factory=dict)
    together: Callable[[], object] = lambda: None
    """Called before each window, for processes that are measured together to begin at once."""

    @classmethod
    def of(cls, subject: Subject) -> Workbench:
        """The U-Net is made where it is to be: 860 million random numbers are slow on a CPU."""
        device = torch.device(subject.device)
        if subject.unet == "miniature":
            unet = UNet2DConditionModel.from_pretrained(
                str(MINIATURE), use_safetensors=True, local_files_only=True
            )
        else:
            torch.manual_seed(0)
            with device:
                unet = UNet2DConditionModel.from_config(published_unet("sd1"))
        dtype = (
            torch.float64
            if subject.precision == "float64"
            else compute_dtype(subject.precision, device)
        )
        # Not diffusers' own `to`, which warns of any change of precision.
        torch.nn.Module.to(unet, device=device, dtype=dtype)
        return cls(unet.requires_grad_(False).eval(), subject.rank, N_TOKENS[subject.unet])

    @cached_property
    def scheduler(self) -> DDPMScheduler:
        return DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1
        )

    @cached_property
    def layout(self) -> AdapterLayout:
        return layout_of(self.unet, self.rank)

    @property
    def device(self) -> torch.device:
        found: torch.device = self.unet.device
        return found

    def settings(self, batch: int, n_steps: int = N_STEPS) -> Settings:
        return Settings(rank=self.rank, batch_size=batch, n_steps=n_steps)

    def items(self, n_adapters: int) -> list[TrainingItem]:
        """Adapters with images of their own."""
        return [self._item(index) for index in range(n_adapters)]

    def peer(self, *, autocast: bool, compiled: str) -> Peer:
        """Made once: what is compiled belongs to it. Its frozen weights are this U-Net's."""
        key = (autocast, compiled)
        if key not in self.peers:
            self.peers[key] = Peer(
                self.unet, self.scheduler, self.rank, autocast=autocast, compiled=compiled
            )
        return self.peers[key]

    def _item(self, index: int) -> TrainingItem:
        rng = np.random.default_rng(index)
        config = self.unet.config
        latents = (N_IMAGES, config["in_channels"], *[config["sample_size"]] * 2)
        text = (N_IMAGES, self.n_tokens, config["cross_attention_dim"])
        spec = AdapterSpec(
            row=index,
            adapter_id=f"adapter-{index}",
            artist="",
            genre="",
            role=Role.TRAIN,
            index=index,
            image_ids=tuple(map(str, range(N_IMAGES))),
            token="",
            noise_seed=index,
            init_seed=0,
        )
        return TrainingItem(
            spec,
            latents_mean=rng.standard_normal(latents, np.float32),
            latents_std=0.1 * rng.random(latents, np.float32),
            text=rng.standard_normal(text, np.float32),
        )
