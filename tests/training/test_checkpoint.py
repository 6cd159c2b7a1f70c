"""An interrupted stack goes on as if it had not been interrupted."""

from dataclasses import replace

import numpy as np
import pytest

from lorastyle.places.place import place_of
from lorastyle.training.checkpoint import CheckpointFile
from lorastyle.training.trainer import train_stack


class MachineGoneError(Exception):
    """Stands in for a machine taken away."""


def interrupt_after(n_steps):
    def on_step(step):
        if step == n_steps:
            raise MachineGoneError

    return on_step


def file_at(path):
    return CheckpointFile(place_of(path.parent), path.name)


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"n_steps": 7, "checkpoint_every": 2})


@pytest.fixture
def interrupted(unet, epsilon_scheduler, items, settings, tmp_path):
    """A checkpoint after 4 of 7 steps; the machine went away after 5."""
    path = tmp_path / "stack.safetensors"
    with pytest.raises(MachineGoneError):
        train_stack(
            unet,
            epsilon_scheduler,
            items,
            settings,
            checkpoint=file_at(path),
            on_step=interrupt_after(5),
        )
    return path


def steps_made(unet, scheduler, items, settings, path):
    made = []
    trained = train_stack(
        unet, scheduler, items, settings, checkpoint=file_at(path), on_step=made.append
    )
    return made, trained


def test_a_resumed_stack_ends_in_the_same_bits(
    unet, epsilon_scheduler, items, settings, interrupted
):
    made, resumed = steps_made(unet, epsilon_scheduler, items, settings, interrupted)
    whole = train_stack(unet, epsilon_scheduler, items, settings)
    assert made == [5, 6, 7]
    for one, other in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(one.vector, other.vector)
        assert {**one.receipt, "wall_s": 0} == {**other.receipt, "wall_s": 0}


@pytest.mark.parametrize("meaning", ["interleaved", "paired"])
def test_a_resumed_stack_draws_its_regularisation_images_as_if_it_had_not_stopped(
    unet, epsilon_scheduler, items, settings, prior, meaning, tmp_path
):
    settings = settings.model_copy(update={"prior_weight": 1.0, "prior_batch": meaning})
    given = unet, epsilon_scheduler, items, settings
    checkpoint = file_at(tmp_path / "stack.safetensors")
    stop = interrupt_after(5)
    with pytest.raises(MachineGoneError):
        train_stack(*given, prior=prior, checkpoint=checkpoint, on_step=stop)
    resumed = train_stack(*given, prior=prior, checkpoint=checkpoint)
    for one, other in zip(resumed, train_stack(*given, prior=prior), strict=True):
        np.testing.assert_array_equal(one.vector, other.vector)


def test_an_interruption_leaves_the_base_model_whole(unet, interrupted):
    assert all("linear" not in name.split(".") for name, _ in unet.named_modules())
    assert all(parameter.requires_grad for parameter in unet.parameters())


@pytest.mark.parametrize("change", ["spec", "images", "settings", "company"])
def test_a_checkpoint_of_other_work_is_passed_over(
    unet, epsilon_scheduler, items, settings, interrupted, change
):
    if change == "spec":
        items[0] = replace(items[0], spec=replace(items[0].spec, noise_seed=1))
    elif change == "images":
        items[0] = replace(items[0], latents_mean=items[0].latents_mean + 1)
    elif change == "settings":
        settings = settings.model_copy(update={"learning_rate": 1e-4})
    else:
        items = items[:-1]
    made, _ = steps_made(unet, epsilon_scheduler, items, settings, interrupted)
    assert made[0] == 1


@pytest.mark.parametrize("n_bytes", [0, 7, 40, -100])
def test_a_damaged_checkpoint_is_passed_over(
    unet, epsilon_scheduler, items, settings, interrupted, n_bytes
):
    interrupted.write_bytes(interrupted.read_bytes()[:n_bytes])
    made, _ = steps_made(unet, epsilon_scheduler, items, settings, interrupted)
    assert made[0] == 1


def test_no_checkpoint_is_written_unless_asked_for(
    unet, epsilon_scheduler, items, settings, tmp_path
):
    settings = settings.model_copy(update={"checkpoint_every": 0})
    steps_made(unet, epsilon_scheduler, items, settings, tmp_path / "stack.safetensors")
    assert list(tmp_path.iterdir()) == []
