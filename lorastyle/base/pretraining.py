"""How the shipped miniature was made: a small autoencoder, then a small text-conditioned U-Net.

The parts are ordinary diffusers and transformers classes, so that the result is an ordinary
Stable Diffusion folder. Every draw is keyed by (seed, step): a training that is stopped and
resumed sees what an uninterrupted one sees.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lorastyle.base.loading import BaseIdentity, BaseModel
from lorastyle.errors import BaseModelError

PredictionType: TypeAlias = Literal["epsilon", "v_prediction"]
OnStep: TypeAlias = Callable[[int, float], None]
"""Called after each step with its number (from 1) and its loss."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the miniature's parts; the defaults are the shipped one's."""

    image_size: int = 64
    """Pixels of a side; the autoencoder halves it ``len(vae_channels) - 1`` times."""
    latent_channels: int = 16
    """Well below the U-Net's first width: 48 into 32 learned nothing."""
    vae_channels: tuple[int, ...] = (16, 32, 64, 64)
    unet_channels: tuple[int, ...] = (48, 96)
    n_heads: int = 4
    text_width: int = 64
    """Hidden size of the text encoder, hence the cross-attention dimension."""
    text_layers: int = 2
    n_tokens: int = 20
    """Length of every caption with its markers; cross-attention pays for each."""
    norm_groups: int = 8
    prediction_type: PredictionType = "v_prediction"


@dataclass(frozen=True)
class Schedule:
    """One training: its length, batch and learning rate (warm-up, then half a cosine)."""

    n_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    seed: int = 0
    save_every: int = 100
    """Steps between two states on disk, if a state file is given."""

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0; it ends at a hundredth of its peak."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.n_steps - self.warmup_steps, 1)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


# --------------------------------------------------------------------------- parts


def build_vae(architecture: Architecture) -> AutoencoderKL:
    """An untrained autoencoder: images in [-1, 1] to latents of ``latent_channels``."""
    channels = architecture.vae_channels
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=architecture.latent_channels,
        norm_num_groups=architecture.norm_groups,
        sample_size=architecture.image_size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def build_unet(architecture: Architecture) -> UNet2DConditionModel:
    """An untrained U-Net of Stable Diffusion 1.5's block kinds: all but the last attend to text."""
    channels = architecture.unet_channels
    n_attending = len(channels) - 1
    factor = 2 ** (len(architecture.vae_channels) - 1)
    return UNet2DConditionModel(
        sample_size=architecture.image_size // factor,
        in_channels=architecture.latent_channels,
        out_channels=architecture.latent_channels,
        block_out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * n_attending + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * n_attending,
        layers_per_block=1,
        cross_attention_dim=architecture.text_width,
        attention_head_dim=architecture.n_heads,
        norm_num_groups=architecture.norm_groups,
    )


def build_scheduler(architecture: Architecture) -> DDPMScheduler:
    """Stable Diffusion's noise schedule with the architecture's prediction type."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type=architecture.prediction_type,
    )


def build_text_encoder(architecture: Architecture, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained CLIP text encoder for that tokenizer."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=architecture.text_width,
        intermediate_size=2 * architecture.text_width,
        projection_dim=architecture.text_width,
        num_hidden_layers=architecture.text_layers,
        num_attention_heads=architecture.n_heads,
        max_position_embeddings=architecture.n_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def write_tokenizer(directory: Path, words: Sequence[str], n_tokens: int) -> CLIPTokenizer:
    """A CLIP tokenizer in which each of these words is one token and any text still encodes.

    Byte-level alphabet first, then the merges that build the words. Writes ``vocab.json`` and
    ``merges.txt`` and what transformers adds to them.
    """
    alphabet = _byte_alphabet()
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = _apply_merges([*word[:-1], word[-1] + "</w>"], merges)
        while len(pieces) > 1:
            # Later merges rank lower, so none of them can undo an earlier word.
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    tokens = alphabet + [a + "</w>" for a in alphabet] + [a + b for a, b in merges]
    tokens = [*list(dict.fromkeys(tokens)), "<|startoftext|>", "<|endoftext|>"]
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (directory / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    tokenizer = CLIPTokenizer(
        vocab=str(directory / "vocab.json"),
        merges=str(directory / "merges.txt"),
        model_max_length=n_tokens,
    )
    tokenizer.save_pretrained(directory)
    return tokenizer


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, as CLIP uses them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def _apply_merges(pieces: list[str], merges: Sequence[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding: repeatedly join the pair of lowest rank."""
    rank = {pair: i for i, pair in enumerate(merges)}
    while len(pieces) > 1:
        pairs = list(itertools.pairwise(pieces))
        best = min(pairs, key=lambda pair: rank.get(pair, len(rank)))
        if best not in rank:
            break
        joined: list[str] = []
        i = 0
        while i < len(pieces):
            if i + 1 < len(pieces) and (pieces[i], pieces[i + 1]) == best:
                joined.append(pieces[i] + pieces[i + 1])
                i += 2
            else:
                joined.append(pieces[i])
                i += 1
        pieces = joined
    return pieces


# --------------------------------------------------------------------------- autoencoder


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by a Newton-Schulz iteration.

    On the autoencoder it reaches in 200 steps what AdamW reaches in 700; on the U-Net it halves
    the steps, for a third more time each.
    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(mean, group["momentum"]).flatten(1)
                rows, columns = update.shape
                update = _orthogonal(update.T).T if rows > columns else _orthogonal(update)
                scale = max(1.0, rows / columns) ** 0.5
                p.add_(update.reshape(p.shape), alpha=-group["lr"] * scale)


ADAM_SHARE = 0.15
"""AdamW's learning rate as a share of Muon's, for biases, norms, embeddings and thin kernels."""


def _optimisers(module: nn.Module, momentum: float) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for matrices and kernels of some width, AdamW for all else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in module.named_parameters():
        wide = p.ndim >= 2 and min(p.shape[:2]) > 3 and "embedding" not in name
        (matrices if wide else others).append(p)
    adam = torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3)
    return Muon(matrices, lr=1e-2, momentum=momentum), adam


def _orthogonal(wide: Tensor) -> Tensor:
    """About U V' of a wide matrix's singular value decomposition, in five products of three."""
    x: Tensor = wide / (wide.norm() + 1e-9)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def train_vae(
    vae: AutoencoderKL,
    images: NDArray[np.uint8],
    schedule: Schedule,
    *,
    crop: int = 32,
    state_file: Path | None = None,
    on_step: OnStep | None = None,
    kl_weight: float = 1e-4,
) -> None:
    """Train the autoencoder in place on images (m, H, W, 3).

    Three quarters of the steps see a random ``crop`` (a quarter of the work, and steps are what
    it lacks), the rest whole images; half are mirrored. The loss is squared plus some absolute
    error of pixels in [-1, 1], and a weak pull of the posterior to a unit normal.
    ``schedule.learning_rate`` is Muon's; what is no matrix gets AdamW at a share of it.
    """
    # Posteriors start narrow: with unit noise on every latent the first steps learn nothing.
    start_logvar = -4.0
    muon, adam = _optimisers(vae, momentum=0.9)
    state = {"vae": vae, "muon": muon, "adam": adam}
    start = _resume(state_file, state)
    if start == 0:
        with torch.no_grad():
            vae.quant_conv.bias[vae.config.latent_channels :] += start_logvar
    n_cropped = 3 * schedule.n_steps // 4
    vae.train()
    for step in range(start, schedule.n_steps):
        rng, noise_source = _draws(schedule.seed, step)
        batch = images[rng.integers(len(images), size=schedule.batch_size)]
        if step < n_cropped and crop < batch.shape[1]:
            top, left = 8 * rng.integers(0, (batch.shape[1] - crop) // 8 + 1, size=2)
            batch = batch[:, top : top + crop, left : left + crop]
        pixels = _pixels(batch)
        if rng.random() < 0.5:
            pixels = pixels.flip(-1)
        posterior = vae.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=noise_source)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        error = decoded - pixels
        kl = posterior.kl().mean() / noise[0].numel()
        loss = error.square().mean() + 0.2 * error.abs().mean() + kl_weight * kl
        rate = schedule.rate(step)
        _descend(loss, {muon: rate, adam: ADAM_SHARE * rate}, vae.parameters())
        if on_step is not None:
            on_step(step + 1, loss.item())
        _maybe_save(state_file, state, step + 1, schedule)
    vae.eval()


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, images: NDArray[np.uint8]) -> None:
    """Give every latent channel zero mean and unit deviation over these images, in place.

    The shift and scale are folded into the two 1 x 1 convolutions around the latent, because
    Stable Diffusion's config has room for one factor only (which stays 1).
    """
    encoded = [vae.encode(_pixels(images[i : i + 32])).latent_dist.mean for i in
               range(0, len(images), 32)]  # fmt: skip
    latents = torch.cat(encoded)
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    n_channels = len(mean)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:n_channels] /= std[:, None, None, None]
    into.bias[:n_channels] = (into.bias[:n_channels] - mean) / std
    into.bias[n_channels:] -= 2 * std.log()
    out.bias += (out.weight[:, :, 0, 0] * mean).sum(1)
    out.weight *= std[None, :, None, None]


# --------------------------------------------------------------------------- denoiser


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


def denoising_target(
    scheduler: DDPMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """What the U-Net is asked to predict: the noise, or the velocity. Shapes (m, C, h, w)."""
    if scheduler.config.prediction_type == "epsilon":
        return noise
    if scheduler.config.prediction_type == "v_prediction":
        velocity: Tensor = scheduler.get_velocity(latents, noise, timesteps)
        return velocity
    raise BaseModelError(
        f"prediction type '{scheduler.config.prediction_type}' is not supported; "
        "use 'epsilon' or 'v_prediction'"
    )


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
    muon, adam = _optimisers(modules, momentum=0.95)
    average = Average(ema_decay)
    state = {"modules": modules, "muon": muon, "adam": adam, "average": average}
    start = _resume(state_file, state)
    for step in range(start, schedule.n_steps):
        rng, noise_source = _draws(schedule.seed, step)
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
        target = denoising_target(base.scheduler, latents, noise, timesteps)
        loss = (predicted - target).square().mean()
        rate = schedule.rate(step)
        _descend(loss, {muon: rate, adam: ADAM_SHARE * rate}, parameters)
        average.update(parameters, step)
        if on_step is not None:
            on_step(step + 1, loss.item())
        _maybe_save(state_file, state, step + 1, schedule)
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


# --------------------------------------------------------------------------- shared steps


def _pixels(images: NDArray[np.uint8]) -> Tensor:
    """Images (m, H, W, 3) uint8 to (m, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def _draws(seed: int, step: int) -> tuple[np.random.Generator, torch.Generator]:
    rng = np.random.default_rng([seed, step])
    return rng, torch.Generator().manual_seed(int(rng.integers(2**62)))


def _descend(loss: Tensor, rates: dict[torch.optim.Optimizer, float], parameters: Any) -> None:
    """One step of each optimiser at its rate, gradients clipped to unit norm together."""
    for optimiser, rate in rates.items():
        optimiser.zero_grad()
        for group in optimiser.param_groups:
            group["lr"] = rate
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimiser in rates:
        optimiser.step()


def _resume(state_file: Path | None, parts: dict[str, Any]) -> int:
    """Load what a former call saved; returns the number of steps done."""
    if state_file is None or not state_file.is_file():
        return 0
    saved = torch.load(state_file, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])


def _maybe_save(
    state_file: Path | None, parts: dict[str, Any], step: int, schedule: Schedule
) -> None:
    if state_file is None or (step % schedule.save_every and step != schedule.n_steps):
        return
    state = {name: part.state_dict() for name, part in parts.items()}
    partial = state_file.with_suffix(".partial")
    torch.save({**state, "step": step}, partial)
    partial.replace(state_file)


# --------------------------------------------------------------------------- the folder


def assemble(
    architecture: Architecture, vae: AutoencoderKL, tokenizer: CLIPTokenizer, *, seed: int = 0
) -> BaseModel:
    """A base model with a trained autoencoder and untrained U-Net and text encoder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = build_unet(architecture)
        text_encoder = build_text_encoder(architecture, tokenizer)
    identity = BaseIdentity(
        name="untrained",
        sha256="",
        prediction_type=architecture.prediction_type,
        image_size=architecture.image_size,
        latent_channels=architecture.latent_channels,
        cross_attention_dim=architecture.text_width,
    )
    return BaseModel(
        unet=unet, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer,
        scheduler=build_scheduler(architecture), identity=identity,
    )  # fmt: skip


def write_folder(base: BaseModel, directory: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a Stable Diffusion folder: weights as safetensors of ``dtype``, the parts' configs.

    float16 halves the size; the rounding (1e-3 relative) is far below what training leaves open.
    The text encoder, a twentieth of the whole, stays float32: transformers loads a part as it was
    saved and diffusers as float32, so that a pipeline loaded without a type would mix the two.
    """
    import copy

    import diffusers

    directory.mkdir(parents=True, exist_ok=True)
    for name in ("unet", "vae", "text_encoder"):
        part = copy.deepcopy(getattr(base, name)).to(
            torch.float32 if name == "text_encoder" else dtype
        )
        part.save_pretrained(directory / name, safe_serialization=True)
        _forget_origin(directory / name / "config.json")
    base.tokenizer.save_pretrained(directory / "tokenizer")
    # vocab.json and merges.txt: the form that other programs, and older transformers, read.
    base.tokenizer.backend_tokenizer.model.save(str(directory / "tokenizer"))
    base.scheduler.save_pretrained(directory / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    partial = directory / "model_index.json.partial"
    partial.write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    partial.replace(directory / "model_index.json")


def _forget_origin(config: Path) -> None:
    """Drop the path that a part was loaded from: it is the maker's, and no one else's."""
    values = json.loads(config.read_text("utf-8"))
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
