"""What an adapter is trained on depends on its seed and the step, and on nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.training.batches import Batches
from lorastyle.training.noise import Stream, draw, image_order

SHAPE = (3, 4, 8, 8)


def shown(items, settings, prior=None, step=2):
    """What each adapter is shown at a step: tensors (K, S, ...)."""
    batches = Batches(items, settings, prior, n_timesteps=1000, like=torch.zeros(1))
    batch = vars(batches.draw(step))
    weights = batch.pop("weights")
    return {"weights": weights} | {
        name: tensor.unflatten(0, (len(items), -1)) for name, tensor in batch.items()
    }


def test_draws_are_keyed_by_seed_stream_and_step():
    keys = [
        (7, Stream.INSTANCE, 0),
        (8, Stream.INSTANCE, 0),
        (7, Stream.PRIOR, 0),
        (7, Stream.INSTANCE, 1),
    ]
    noises = [draw(*key, SHAPE, 1000).noise for key in keys]
    assert all((a != b).any() for i, a in enumerate(noises) for b in noises[:i])
    np.testing.assert_array_equal(draw(*keys[0], SHAPE, 1000).noise, noises[0])


def test_noise_is_standard_normal_and_timesteps_uniform():
    drawn = draw(2**63 - 1, Stream.INSTANCE, 5, (4000, 4, 2, 2), 1000)
    for values in (drawn.noise, drawn.posterior):
        assert values.dtype == np.float32
        assert abs(values.mean()) < 0.02
        assert abs(values.std() - 1) < 0.02
    assert abs(np.corrcoef(drawn.noise.ravel(), drawn.posterior.ravel())[0, 1]) < 0.02
    assert drawn.timesteps.min() >= 0
    assert 990 < drawn.timesteps.max() < 1000
    assert abs(drawn.timesteps.mean() - 499.5) < 20


@pytest.mark.parametrize("slot", [0, 3])
def test_neither_slot_nor_company_changes_what_an_adapter_sees(make_item, settings, slot):
    items = [make_item(index, n_images=2 + index) for index in range(4)]
    item = make_item(9)
    alone = shown([item], settings)
    together = shown([*items[:slot], item, *items[slot:]], settings)
    for name, tensor in together.items():
        assert torch.equal(tensor[slot], alone[name][0]), name


def test_prior_images_do_not_change_what_is_seen_of_ones_own_in_paired_batches(
    items, settings, prior
):
    settings = settings.model_copy(update={"prior_batch": "paired"})
    own, both = shown(items, settings), shown(items, settings, prior)
    for name, tensor in both.items():
        assert tensor.shape[1] == 2 * settings.batch_size
        assert torch.equal(tensor[:, : settings.batch_size], own[name]), name


def test_the_second_half_of_paired_samples_are_prior_images(items, settings, prior):
    settings = settings.model_copy(update={"prior_batch": "paired"})
    without_noise = replace(prior, latents_std=np.zeros_like(prior.latents_std))
    batch = shown(items, settings, without_noise)
    known = {
        image.tobytes(): text.tobytes()
        for image, text in zip(prior.latents_mean, prior.text, strict=True)
    }
    for adapter in range(len(items)):
        for sample in range(settings.batch_size, 2 * settings.batch_size):
            latents = batch["latents"][adapter, sample].numpy()
            assert known[latents.tobytes()] == batch["text"][adapter, sample].numpy().tobytes()


def test_a_latent_is_drawn_from_its_images_posterior(make_item, settings):
    item = make_item(0, n_images=1)
    drawn = draw(item.spec.noise_seed, Stream.INSTANCE, 2, (settings.batch_size, 4, 8, 8), 1000)
    expected = item.latents_mean + item.latents_std * drawn.posterior
    np.testing.assert_allclose(shown([item], settings)["latents"][0], expected, atol=1e-6)


@given(st.integers(0, 2**63 - 1), st.integers(1, 12), st.integers(1, 60))
def test_every_image_is_seen_once_before_any_is_seen_twice(seed, n_images, n_samples):
    order = image_order(seed, Stream.INSTANCE_ORDER, n_images, n_samples)
    assert len(order) == n_samples
    for start in range(0, n_samples, n_images):
        epoch = order[start : start + n_images]
        assert len(set(epoch.tolist())) == len(epoch)
        assert set(epoch.tolist()) <= set(range(n_images))


def test_epochs_are_shuffled_anew_and_a_longer_run_begins_alike():
    order = image_order(3, Stream.INSTANCE_ORDER, 10, 40)
    assert len({tuple(epoch) for epoch in order.reshape(4, 10).tolist()}) == 4
    np.testing.assert_array_equal(image_order(3, Stream.INSTANCE_ORDER, 10, 25), order[:25])
