"""How the miniature is made: targets, resumption, and what is written."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lorastyle.base.latents import encode_images
from lorastyle.base.loading import load_base
from lorastyle.base.pretraining import (
    Architecture,
    Schedule,
    assemble,
    build_scheduler,
    build_vae,
    normalise_latents,
    train_denoiser,
    train_vae,
    write_folder,
    write_tokenizer,
)
from lorastyle.base.target import training_target
from lorastyle.errors import BaseModelError

TINY = Architecture(
    image_size=16, latent_channels=4, vae_channels=(8, 8), unet_channels=(8, 16), n_heads=2,
    text_width=8, text_layers=1, n_tokens=8, norm_groups=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def images():
    """Twelve smooth pictures: corner colours, interpolated."""
    corners = np.random.default_rng(0).integers(0, 256, (12, 2, 2, 3)).astype(float)
    ramp = np.stack([np.linspace(1, 0, 16), np.linspace(0, 1, 16)], axis=1)
    return np.einsum("yi,xj,mijc->myxc", ramp, ramp, corners).astype(np.uint8)


def assembled(tmp_path, architecture=TINY):
    torch.manual_seed(0)
    vae = build_vae(architecture)
    tokenizer = write_tokenizer(tmp_path / "tokenizer", ["red", "boat", "boats"], 8)
    return assemble(architecture, vae, tokenizer)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_target_is_the_schedulers_own(prediction_type):
    scheduler = build_scheduler(Architecture(prediction_type=prediction_type))
    latents, noise = torch.randn(2, 3, 4, 8, 8)
    timesteps = torch.tensor([0, 500, 999])
    target = training_target(scheduler, latents, noise, timesteps)
    alpha_bar = scheduler.alphas_cumprod[timesteps][:, None, None, None]
    by_hand = noise
    if prediction_type == "v_prediction":
        by_hand = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents
        assert torch.equal(target, scheduler.get_velocity(latents, noise, timesteps))
    assert torch.allclose(target, by_hand, atol=1e-6)


def test_other_prediction_types_are_refused():
    scheduler = build_scheduler(Architecture())
    scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(BaseModelError, match="predicts 'sample'"):
        training_target(scheduler, *torch.zeros(2, 1, 4, 8, 8), torch.tensor([1]))


def test_normalising_gives_unit_latents_and_changes_no_picture(images):
    torch.manual_seed(0)
    vae = build_vae(TINY).eval()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
        before, narrow = vae.decode(posterior.mean).sample, posterior.std / posterior.mean.std()
    normalise_latents(vae, images)
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
        after = vae.decode(posterior.mean).sample
    assert torch.allclose(posterior.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(posterior.mean.std((0, 2, 3)), torch.ones(4), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-3)
    assert posterior.std.shape == narrow.shape


def test_training_the_autoencoder_lowers_its_loss(images):
    torch.manual_seed(0)
    vae, losses = build_vae(TINY), []
    train_vae(
        vae, images, Schedule(30, 4, 2e-2, warmup_steps=3), crop=8,
        on_step=lambda _, loss: losses.append(loss),
    )  # fmt: skip
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


def test_a_resumed_training_ends_in_the_same_bits(tmp_path, images):
    def train(folder, lengths):
        folder.mkdir()
        state = folder / "unet.pt"
        for n_steps in lengths:
            base = assembled(folder)
            mean, std = map(torch.from_numpy, encode_images(base, images))
            stop = Stop(n_steps)
            try:
                train_denoiser(
                    base, mean, std, ["red boat"] * len(images), Schedule(6, 4, 1e-3, save_every=2),
                    state_file=state, on_step=stop,
                )  # fmt: skip
            except KeyboardInterrupt:
                continue
        return [p.clone() for p in [*base.unet.parameters(), *base.text_encoder.parameters()]]

    whole, resumed = train(tmp_path / "a", [6]), train(tmp_path / "b", [5, 6])
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


class Stop:
    """Interrupts a training after some steps, unless they are all."""

    def __init__(self, n_steps):
        self.n_steps = n_steps

    def __call__(self, step, loss):
        if step == self.n_steps < 6:
            raise KeyboardInterrupt


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_what_is_written_can_be_loaded(tmp_path, prediction_type):
    architecture = replace(TINY, prediction_type=prediction_type)
    base = assembled(tmp_path, architecture)
    write_folder(base, tmp_path / "folder", dtype=torch.float32)
    loaded = load_base(tmp_path / "folder")
    assert loaded.identity.prediction_type == prediction_type
    assert loaded.identity.image_size == 16
    assert loaded.scheduler.config.prediction_type == prediction_type
    for name, weight in base.unet.state_dict().items():
        assert torch.equal(weight, loaded.unet.state_dict()[name])
    assert loaded.tokenizer("red boats").input_ids == base.tokenizer("red boats").input_ids
    assert len(loaded.tokenizer("red boats").input_ids) == 4
    assert {"vocab.json", "merges.txt"} <= {
        f.name for f in (tmp_path / "folder/tokenizer").iterdir()
    }
    again = tmp_path / "again"
    write_folder(loaded, again)
    assert not [f for f in again.rglob("*.json") if str(tmp_path) in f.read_text("utf-8")]


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth():
    schedule = Schedule(1000, 8, 2e-3, warmup_steps=100)
    rates = [schedule.rate(step) for step in range(1000)]
    assert rates[0] < 1e-4
    assert max(rates) == pytest.approx(2e-3)
    assert rates[-1] == pytest.approx(2e-5, rel=0.05)
