"""The regularisation images that all adapters of a run share.

Those of the user's folder are encoded like the corpus's, a kept latent each. Without a folder the
base model paints them once, in chunks that are kept in the run: actors that start together begin
with different chunks and find the others' in place of painting all themselves.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lorastyle.config import TrainingConfig
from lorastyle.corpus.regularisation import read_regularisation, regularisation_root
from lorastyle.corpus.sampling import stable_seed
from lorastyle.corpus.training_images import index_catalogue
from lorastyle.distributed.latents import LatentCache
from lorastyle.errors import StageError
from lorastyle.records import digest
from lorastyle.runs import Run
from lorastyle.runs.kept import KeptArrays

if TYPE_CHECKING:
    from lorastyle.training.batches import EncodedImages

CHUNK = 16
"""Regularisation images that are sampled and kept together."""


def encoded_prior(
    run: Run, base: Any, latents: LatentCache, root: Path | None
) -> EncodedImages | None:
    """The run's regularisation images as training takes them; None where it has no prior.

    `root` is the user's folder of them as the driver sees it, if there is one; those of a run in
    a bucket are fetched to this machine instead.
    """
    from lorastyle.base.latents import encode_captions, encode_images
    from lorastyle.training.batches import EncodedImages

    settings = run.experiment.training
    if settings.prior_weight == 0:
        return None
    given = read_regularisation(run)
    if given is None:
        mean, std = encode_images(base, sampled_prior(run, base))
        captions = [settings.prior_caption] * len(mean)
    else:
        here = regularisation_root(run) if root is None or run.url is not None else root
        images = list(index_catalogue(given, here).values())
        mean, std = latents.load(images)
        captions = [image.caption for image in images]
    return EncodedImages(mean, std, encode_captions(base, captions))


def sampled_prior(run: Run, base: Any) -> npt.NDArray[np.uint8]:
    """Images of the class prompt, (m, H, W, 3): painted by the base model, or as kept.

    Raises StageError where what was kept cannot be read again: with fewer images than the run
    asks for, adapters would be others.
    """
    settings = run.experiment.training
    kept = KeptArrays.of(run, "prior")
    starts = range(0, settings.n_prior_images, CHUNK)
    for start in random.sample(starts, len(starts)):
        name = _name(base, settings, start)
        if kept.find(name) is None:
            kept.keep(name, _paint(base, settings, start))
    # Read again, all of them: where two painted the same chunk, the last one kept counts.
    return np.concatenate([_read(kept, _name(base, settings, start), start) for start in starts])


def _read(kept: KeptArrays, name: str, start: int) -> npt.NDArray[np.uint8]:
    chunk = kept.find(name)
    if chunk is None:
        raise StageError(
            f"regularisation images {start + 1} and following were kept in "
            f"{kept.directory / name}.npy, which is gone or damaged by now; see that the disk has "
            "room and that nothing else deletes files of the run, then train again"
        )
    return chunk


def _paint(base: Any, settings: TrainingConfig, start: int) -> npt.NDArray[np.uint8]:
    from lorastyle.base.sampling import sample

    n_images = min(CHUNK, settings.n_prior_images - start)
    return sample(base, [settings.prior_caption] * n_images, seed=_seed(settings, start))


def _seed(settings: TrainingConfig, start: int) -> int:
    return stable_seed(settings.seed, "prior", start)


def _name(base: Any, settings: TrainingConfig, start: int) -> str:
    """Of a chunk's file: everything that it is made from."""
    n_images = min(CHUNK, settings.n_prior_images - start)
    made_from = [base.identity.sha256, settings.prior_caption, _seed(settings, start), n_images]
    return digest(made_from)[:24]


def prior_digest(run: Run) -> str | None:
    """Of the contents and captions of the user's regularisation images, if there are any."""
    given = read_regularisation(run)
    return None if given is None else digest(given[["content_hash", "caption"]].values.tolist())
