"""How regularisation images are mixed in, and what they count."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.training.ordering import schedule
from lorastyle.training.settings import samples_a_step


def told(n_steps, batch_size, prior_batch, prior_weight=0.5):
    return SimpleNamespace(
        n_steps=n_steps, batch_size=batch_size, prior_batch=prior_batch, prior_weight=prior_weight
    )


counts = st.integers(1, 7)


@given(counts, counts, st.integers(1, 40), st.integers(1, 5))
def test_an_interleaved_epoch_holds_each_own_image_once_and_as_many_of_the_prior(
    n_own, n_prior, n_steps, batch_size
):
    plan = schedule(11, n_own, n_prior, told(n_steps, batch_size, "interleaved"))
    assert plan.images.shape == plan.weights.shape == (n_steps, batch_size)
    shown = plan.images.ravel()
    for start in range(0, len(shown) - 2 * n_own + 1, 2 * n_own):
        epoch = shown[start : start + 2 * n_own]
        assert sorted(epoch[epoch < n_own]) == list(range(n_own))
    prior = shown[shown >= n_own] - n_own
    for start in range(0, len(prior) - n_prior + 1, n_prior):
        assert sorted(prior[start : start + n_prior]) == list(range(n_prior))


def test_of_the_papers_1760_steps_880_show_an_own_image():
    plan = schedule(3, 10, 64, told(1760, 1, "interleaved", prior_weight=1.0))
    assert (plan.images < 10).sum() == 880
    assert np.unique(plan.images[:20]).size == 20  # ten own ones, ten of the 64


def test_own_and_prior_images_come_in_no_pattern():
    kinds = schedule(3, 10, 64, told(2000, 1, "interleaved")).images.ravel() < 10
    repeats = (kinds[1:] == kinds[:-1]).mean()
    assert 0.4 < repeats < 0.55  # a little under half: epochs are balanced


@given(counts, counts, st.integers(1, 9), st.integers(1, 4))
def test_a_paired_step_holds_equally_many_of_both(n_own, n_prior, n_steps, batch_size):
    settings = told(n_steps, batch_size, "paired")
    plan = schedule(11, n_own, n_prior, settings)
    assert plan.images.shape == (n_steps, samples_a_step(settings))
    own, prior = np.split(plan.images, 2, axis=1)
    assert (own < n_own).all()
    assert ((prior >= n_own) & (prior < n_own + n_prior)).all()


def test_weights_are_those_of_the_two_trainers():
    """kohya: the mean over a batch of loss x weight; diffusers: a mean over each kind."""
    plan = schedule(5, 2, 2, told(6, 2, "interleaved"))
    np.testing.assert_allclose(plan.weights, np.where(plan.images < 2, 0.5, 0.25))
    plan = schedule(5, 2, 2, told(6, 2, "paired"))
    np.testing.assert_allclose(plan.weights, [[0.5, 0.5, 0.25, 0.25]] * 6)


def test_without_a_prior_all_samples_are_own_and_count_alike():
    for meaning in ("paired", "interleaved"):
        settings = told(4, 3, meaning, prior_weight=0.0)
        plan = schedule(5, 2, 0, settings)
        assert plan.images.shape == (4, samples_a_step(settings)) == (4, 3)
        assert plan.images.max() == 1
        np.testing.assert_allclose(plan.weights, 1 / 3)
