"""Samples: diffusers' own pipeline's, seeded, one noise per image, true to the prediction type."""

import copy

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from lorastyle.base.loading import load_base
from lorastyle.base.sampling import decode_latents, draw, initial_noise, sample
from lorastyle.base.sampling_settings import Sampling
from lorastyle.errors import ConfigError

CAPTIONS = ["a red boat on a calm lake at dusk", "a woman in a blue hat at noon", "a painting"]


@pytest.fixture(scope="module")
def base():
    return load_base("miniature")


def predicting(base, prediction_type):
    """The same base model, said to predict something else."""
    other = copy.copy(base)
    other.scheduler = type(base.scheduler).from_config(
        base.scheduler.config, prediction_type=prediction_type
    )
    return other


def by_diffusers(base, prompts, seed, **settings):
    """What StableDiffusionPipeline makes of the same initial noise."""
    pipeline = StableDiffusionPipeline(
        vae=base.vae, text_encoder=base.text_encoder, tokenizer=base.tokenizer, unet=base.unet,
        scheduler=DDIMScheduler.from_config(
            base.scheduler.config, clip_sample=False, timestep_spacing="trailing"
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    noise = initial_noise(base, seed, range(len(prompts)))
    return pipeline(prompts, latents=noise, output_type="np", **settings).images * 255


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_samples_are_those_of_diffusers_pipeline(base, prediction_type, guidance_scale):
    base = predicting(base, prediction_type)
    wanted = by_diffusers(
        base, CAPTIONS, 4, num_inference_steps=3, guidance_scale=guidance_scale
    )  # fmt: skip
    images = sample(base, CAPTIONS, seed=4, n_steps=3, guidance_scale=guidance_scale)
    assert images.dtype == np.uint8
    assert np.abs(images - wanted).max() <= 1


def test_a_negative_prompt_stands_in_the_unconditional_half(base):
    wanted = by_diffusers(
        base, CAPTIONS, 4, num_inference_steps=3, guidance_scale=3.0,
        negative_prompt=["a woman"] * 3,
    )  # fmt: skip
    sampling = Sampling(seed=4, n_steps=3, guidance_scale=3.0, negative_prompt="a woman")
    (images,) = draw(base, [CAPTIONS], [range(3)], sampling)
    assert np.abs(images - wanted).max() <= 1
    assert np.abs(images - sample(base, CAPTIONS, seed=4, n_steps=3).astype(int)).max() > 5


def test_noise_is_that_of_a_generator_for_each_image(base):
    """As images sampled by earlier releases had it: those that runs keep stay valid."""
    keys = [np.random.SeedSequence([7, i]).generate_state(1, np.uint64)[0] >> 1 for i in (0, 5)]
    wanted = [
        torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(int(key))) for key in keys
    ]
    assert torch.equal(initial_noise(base, 7, [0, 5]), torch.cat(wanted))


def test_samples_are_seeded(base):
    images = sample(base, CAPTIONS, seed=4, n_steps=4)
    assert images.shape == (3, 64, 64, 3)
    assert np.array_equal(images, sample(base, CAPTIONS, seed=4, n_steps=4))
    assert not np.array_equal(images, sample(base, CAPTIONS, seed=5, n_steps=4))


def test_an_image_does_not_depend_on_its_neighbours(base):
    together = sample(base, CAPTIONS, seed=4, n_steps=3).astype(int)
    batched = sample(base, CAPTIONS, seed=4, n_steps=3, batch_size=1).astype(int)
    assert np.abs(together - batched).max() <= 1


def test_no_captions_no_images(base):
    assert sample(base, [], seed=0).shape == (0, 64, 64, 3)


def test_a_unet_of_lower_precision_makes_nearly_the_same_images(base):
    other = copy.copy(base)
    other.unet = copy.deepcopy(base.unet).to(torch.bfloat16)
    exact = sample(base, CAPTIONS, seed=4, n_steps=4).astype(int)
    rounded = sample(other, CAPTIONS, seed=4, n_steps=4).astype(int)
    assert 0 < np.abs(exact - rounded).mean() < 2


class _Oracle(torch.nn.Module):
    """A U-Net that knows the clean latent, and answers in the scheduler's convention."""

    def __init__(self, base, clean):
        super().__init__()
        self.config, self.dtype = base.unet.config, torch.float32
        self.device = torch.device("cpu")
        self.clean, self.scheduler = clean, base.scheduler

    def forward(self, noisy, timestep, *_, **__):
        alpha_bar = self.scheduler.alphas_cumprod[timestep]
        noise = (noisy - alpha_bar.sqrt() * self.clean) / (1 - alpha_bar).sqrt()
        if self.scheduler.config.prediction_type == "epsilon":
            return (noise,)
        return (alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * self.clean,)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_perfect_predictor_is_sampled_back_to_its_image(base, prediction_type):
    other = predicting(base, prediction_type)
    clean = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    other.unet = _Oracle(other, clean)
    images = sample(other, ["x"], seed=1, n_steps=8, guidance_scale=1.0)
    assert np.abs(images - decode_latents(base, clean).astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n_steps": 0}, "0 sampling steps"),
        ({"guidance_scale": float("nan")}, "guidance scale is nan"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_makes_no_image_is_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        Sampling(**wrong)


def test_more_steps_than_timesteps_are_refused(base):
    with pytest.raises(ConfigError, match="1001 sampling steps are more than"):
        sample(base, ["x"], seed=0, n_steps=1001)
