"""Which image each sample of an adapter is, and what it counts in the loss.

Two ways of mixing in regularisation images, of which papers rarely say which they used:

`interleaved` (kohya's sd-scripts): a step is `batch_size` images out of one shuffled set that
holds each of the adapter's own images once and equally many of regularisation. Of 1760 steps at
batch 1 about 880 show an own image.
`paired` (diffusers' DreamBooth script): every step shows `batch_size` images of each kind, and so
costs twice as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorastyle.training.noise import Indices, Stream, image_order
from lorastyle.training.settings import TrainingSettings


@dataclass(frozen=True)
class Schedule:
    """The samples of one adapter over all steps."""

    images: Indices
    """(n_steps, S): own images are 0 to m - 1, regularisation images m and on."""
    weights: npt.NDArray[np.float64]
    """(n_steps, S): what a sample's mean squared error is multiplied by."""


def schedule(noise_seed: int, n_own: int, n_prior: int, settings: TrainingSettings) -> Schedule:
    """What an adapter with `n_own` images sees; `n_prior` regularisation images, 0 for no prior."""
    if not n_prior:
        images = _own(noise_seed, n_own, settings.n_steps * settings.batch_size)
    elif settings.prior_batch == "paired":
        return _weighted(_paired(noise_seed, n_own, n_prior, settings), n_own, settings)
    else:
        n_samples = settings.n_steps * settings.batch_size
        images = _interleaved(noise_seed, n_own, n_prior, n_samples)
    return _weighted(images.reshape(settings.n_steps, settings.batch_size), n_own, settings)


def _own(noise_seed: int, n_own: int, n_samples: int) -> Indices:
    return image_order(noise_seed, Stream.INSTANCE_ORDER, n_own, n_samples)


def _prior(noise_seed: int, n_own: int, n_prior: int, n_samples: int) -> Indices:
    return n_own + image_order(noise_seed, Stream.PRIOR_ORDER, n_prior, n_samples)


def _paired(noise_seed: int, n_own: int, n_prior: int, settings: TrainingSettings) -> Indices:
    """(n_steps, 2 b): own images first."""
    shape = (settings.n_steps, settings.batch_size)
    n_samples = settings.n_steps * settings.batch_size
    own = _own(noise_seed, n_own, n_samples).reshape(shape)
    prior = _prior(noise_seed, n_own, n_prior, n_samples).reshape(shape)
    return np.concatenate([own, prior], axis=1)


def _interleaved(noise_seed: int, n_own: int, n_prior: int, n_samples: int) -> Indices:
    """Epochs of 2m samples, m of each kind, shuffled together, (n_samples,)."""
    places = image_order(noise_seed, Stream.MIXING, 2 * n_own, n_samples)
    is_prior = places >= n_own
    images = np.empty(n_samples, np.int64)
    n_of_prior = int(is_prior.sum())
    images[~is_prior] = _own(noise_seed, n_own, n_samples - n_of_prior)
    images[is_prior] = _prior(noise_seed, n_own, n_prior, n_of_prior)
    return images


def _weighted(images: Indices, n_own: int, settings: TrainingSettings) -> Schedule:
    """Means over a step's `batch_size`: of paired batches over each kind by itself."""
    counts = np.where(images < n_own, 1.0, settings.prior_weight) / settings.batch_size
    return Schedule(images, counts)
