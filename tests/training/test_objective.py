"""Losses are each adapter's own."""

import pytest
import torch
from torch.nn.functional import mse_loss

from lorastyle.base.target import training_target
from lorastyle.errors import BaseModelError
from lorastyle.training.objective import adapter_losses


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(6, 2, 3, 3), torch.randn(6, 2, 3, 3)


def test_each_loss_is_the_mean_over_its_own_samples(pair):
    prediction, target = pair
    losses = adapter_losses(prediction, target, torch.full((3, 2), 1 / 2))
    expected = [mse_loss(prediction[i : i + 2], target[i : i + 2]) for i in (0, 2, 4)]
    torch.testing.assert_close(losses, torch.stack(expected))


def test_a_samples_loss_counts_as_its_weight_says(pair):
    prediction, target = pair
    (loss,) = adapter_losses(prediction, target, torch.tensor([[1.0] * 3 + [0.3] * 3]) / 3)
    expected = mse_loss(prediction[:3], target[:3]) + 0.3 * mse_loss(prediction[3:], target[3:])
    torch.testing.assert_close(loss, expected)


def test_the_velocity_by_hand(scheduler):
    latents, noise = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 3.0)
    timestep = torch.tensor([400])
    kept = float(scheduler.alphas_cumprod[400])
    expected = {"epsilon": 3.0, "v_prediction": kept**0.5 * 3.0 - (1 - kept) ** 0.5 * 2.0}
    target = training_target(scheduler, latents, noise, timestep)
    assert target.item() == pytest.approx(expected[scheduler.config.prediction_type], rel=1e-6)


def test_other_prediction_types_are_refused(epsilon_scheduler, pair):
    epsilon_scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(BaseModelError, match="'epsilon' and 'v_prediction'"):
        training_target(epsilon_scheduler, *pair, torch.zeros(6, dtype=torch.int64))
