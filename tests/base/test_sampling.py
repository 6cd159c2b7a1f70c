"""Samples: seeded, one noise per image, and faithful to the prediction type."""

import copy

import numpy as np
import pytest
import torch

from lorastyle.base.loading import load_base
from lorastyle.base.sampling import pipeline, sample

CAPTIONS = ["a red boat on a calm lake at dusk", "a woman in a blue hat at noon", "a painting"]


@pytest.fixture(scope="module")
def base():
    return load_base("miniature")


def test_samples_are_images_and_seeded(base):
    images = sample(base, CAPTIONS, seed=4, n_steps=4)
    assert images.shape == (3, 64, 64, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, sample(base, CAPTIONS, seed=4, n_steps=4))
    assert not np.array_equal(images, sample(base, CAPTIONS, seed=5, n_steps=4))


def test_an_image_does_not_depend_on_its_neighbours(base):
    together = sample(base, CAPTIONS, seed=4, n_steps=3).astype(int)
    batched = sample(base, CAPTIONS, seed=4, n_steps=3, batch_size=1).astype(int)
    assert np.abs(together - batched).max() <= 2


def test_no_captions_no_images(base):
    assert sample(base, [], seed=0).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_sampler_inherits_the_prediction_type(base, prediction_type):
    other = copy.copy(base)
    other.scheduler = type(base.scheduler).from_config(
        base.scheduler.config, prediction_type=prediction_type
    )
    assert pipeline(other).scheduler.config.prediction_type == prediction_type


class _Oracle(torch.nn.Module):
    """A U-Net that knows the clean latent, and answers in the scheduler's convention."""

    def __init__(self, base, clean):
        super().__init__()
        self.config, self.dtype = base.unet.config, torch.float32
        self.device = torch.device("cpu")
        self.clean, self.scheduler = clean, base.scheduler

    def forward(self, noisy, timestep, **_):
        alpha_bar = self.scheduler.alphas_cumprod[timestep]
        noise = (noisy - alpha_bar.sqrt() * self.clean) / (1 - alpha_bar).sqrt()
        if self.scheduler.config.prediction_type == "epsilon":
            return (noise,)
        return (alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * self.clean,)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_perfect_predictor_is_sampled_back_to_its_image(base, prediction_type):
    other = copy.copy(base)
    other.scheduler = type(base.scheduler).from_config(
        base.scheduler.config, prediction_type=prediction_type
    )
    clean = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    made = pipeline(other)
    made.unet = _Oracle(other, clean)
    latents = made(
        "x", num_inference_steps=8, guidance_scale=1.0, height=64, width=64, output_type="latent",
        generator=torch.Generator().manual_seed(1),
    ).images  # fmt: skip
    assert torch.allclose(latents, clean, atol=1e-3)
