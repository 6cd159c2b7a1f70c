"""A tiny random base model, and adapters to train on it."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from lorastyle.config import TrainingConfig
from lorastyle.records import AdapterSpec, Role
from lorastyle.training.batches import EncodedImages, TrainingItem

CHANNELS, SIZE, TOKENS, TEXT = 4, 8, 5, 16


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT,
        attention_head_dim=4,
        norm_num_groups=4,
    )


@pytest.fixture
def precise_unet(unet):
    return unet.double()


@pytest.fixture(params=["epsilon", "v_prediction"])
def scheduler(request):
    return DDPMScheduler(num_train_timesteps=1000, prediction_type=request.param)


@pytest.fixture
def epsilon_scheduler():
    return DDPMScheduler(num_train_timesteps=1000, prediction_type="epsilon")


@pytest.fixture
def settings():
    return TrainingConfig(
        rank=4, alpha=2, n_steps=4, batch_size=3, learning_rate=3e-3, max_grad_norm=0.05
    )


def encoded_images(seed, n_images):
    rng = np.random.default_rng(seed)
    return EncodedImages(
        latents_mean=rng.standard_normal((n_images, CHANNELS, SIZE, SIZE), dtype=np.float32),
        latents_std=0.1 * rng.random((n_images, CHANNELS, SIZE, SIZE), dtype=np.float32),
        text=rng.standard_normal((n_images, TOKENS, TEXT), dtype=np.float32),
    )


def training_item(index, n_images=5, **changes):
    images = encoded_images(1000 + index, n_images)
    spec = AdapterSpec(
        row=index,
        adapter_id=f"artist-{index}",
        artist="artist",
        genre="genre",
        role=Role.TRAIN,
        index=index,
        image_ids=tuple(f"{index}/{i}" for i in range(n_images)),
        token="xq7zk",
        noise_seed=2**62 + 17 * index,
        init_seed=3,
    )
    return TrainingItem(
        **{
            "spec": spec,
            "latents_mean": images.latents_mean,
            "latents_std": images.latents_std,
            "text": images.text,
            **changes,
        }
    )


@pytest.fixture
def make_item():
    return training_item


@pytest.fixture
def prior():
    return encoded_images(5, 4)


@pytest.fixture
def items():
    """Four adapters; the numbers of images differ."""
    return [training_item(index, n_images=3 + index) for index in range(4)]
