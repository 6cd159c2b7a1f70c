"""U-Net and text encoder, trained together on cached latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from lorastyle.base.loading import BaseModel
from lorastyle.base.pretraining.optimisation import (
    ADAM_SHARE,
    OnStep,
    Schedule,
    descend,
    draws,
    maybe_save,
    optimisers,
    resume,
)
from lorastyle.base.target import training_target


@dataclass
class Average:
    """Exponential moving average of parameters; early steps count less than the decay says."""

    decay: float
    values: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def update(self, parameters: Sequence[Tensor], step: int) -> None:
        if not self.values:
            self.values = [p.detach().clone() for p in parameters]
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, p in zip(self.values, parameters, strict=True):
            mean.lerp_(p.detach(), 1 - decay)

    @torch.no_grad()
    def swap(self, parameters: Sequence[Tensor]) -> None:
        """Exchange averages and parameters; a second call undoes it."""
        for mean, p in zip(self.values, parameters, strict=True):
            kept = p.detach().clone()
            p.copy_(mean)
            mean.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.values = state["values"]


def train_denoiser(
    base: BaseModel,
    latent_mean: Tensor,
    latent_std: Tensor,
    captions: Sequence[str],
    schedule: Schedule,
    *,
    state_file: Path | None = None,
    on_step: OnStep | None = None,
    on_snapshot: Callable[[int], None] | None = None,
    snapshot_every: int = 500,
    caption_dropout: float = 0.1,
    ema_decay: float = 0.998,
) -> None:
    """Train U-Net and text encoder together, in place; they end as their moving averages.

    ``latent_mean`` and ``latent_std`` are (m, C, h, w), one caption each. A tenth of the captions
    is dropped for guidance; some become "a painting of ..." or "a painting", so that class prompts
    mean something; a fifth starts with a random word, so that an adapter's identifier is not the
    first one the text encoder meets. ``on_snapshot`` is called with the averages in place.
    """
    modules = nn.ModuleList([base.unet, base.text_encoder])
    modules.requires_grad_(True).train()
    parameters = list(modules.parameters())
    muon, adam = optimisers(modules, momentum=0.95)
    average = Average(ema_decay)
    state = {"modules": modules, "muon": muon, "adam": adam, "average": average}
    start = resume(state_file, state)
    for step in range(start, schedule.n_steps):
        rng, noise_source = draws(schedule.seed, step)
        chosen = rng.integers(len(captions), size=schedule.batch_size)
        said = [_vary(captions[i], rng, caption_dropout) for i in chosen]
        index = torch.from_numpy(chosen)
        mean, std = latent_mean[index].float(), latent_std[index].float()
        latents = mean + std * torch.randn(mean.shape, generator=noise_source)
        noise = torch.randn(mean.shape, generator=noise_source)
        timesteps = torch.randint(0, 1000, (len(chosen),), generator=noise_source)
        noisy = base.scheduler.add_noise(latents, noise, timesteps)
        text = base.text_encoder(_tokens(base.tokenizer, said))[0]
        predicted = base.unet(noisy, timesteps, text).sample
        target = training_target(base.scheduler, latents, noise, timesteps)
        loss = (predicted - target).square().mean()
        rate = schedule.rate(step)
        descend(loss, {muon: rate, adam: ADAM_SHARE * rate}, parameters)
        average.update(parameters, step)
        if on_step is not None:
            on_step(step + 1, loss.item())
        maybe_save(state_file, state, step + 1, schedule)
        if on_snapshot is not None and (step + 1) % snapshot_every == 0:
            average.swap(parameters)
            on_snapshot(step + 1)
            average.swap(parameters)
    average.swap(parameters)
    modules.requires_grad_(False).eval()


def _vary(caption: str, rng: np.random.Generator, dropout: float) -> str:
    """The caption as it may be met: dropped, as a class prompt, with a meaningless first word."""
    draw, marked = float(rng.random()), float(rng.random()) < 0.2
    letters = rng.integers(len(_MARKS), size=6)
    if draw < dropout:
        return ""
    said = f"a painting of {caption}" if draw < dropout + 0.1 else caption
    if draw > 0.97:
        said = "a painting"
    return f"{''.join(_MARKS[i] for i in letters)} {said}" if marked else said


_MARKS = "bcdfghjklmnpqrstvwxz23456789"


def _tokens(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    encoded = tokenizer(
        list(captions), padding="max_length", truncation=True,
        max_length=tokenizer.model_max_length, return_tensors="pt",
    )  # fmt: skip
    ids: Tensor = encoded.input_ids
    return ids
