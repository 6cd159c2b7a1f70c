"""Images' latents, encoded once.

A latent depends on the image alone and is kept in the run, one small file an image, so that all
actors and later attempts share them; of a run in a bucket a copy stays on each machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.corpus.training_images import CataloguedImage
from lorastyle.runs import Run
from lorastyle.runs.kept import KeptArrays

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LatentCache:
    """Mean and standard deviation of each image's latent, in one file an image.

    `kept` belongs to one base model. `fetch` brings an image to this machine.
    """

    kept: KeptArrays
    base: Any
    fetch: Callable[[Path], Path] = Path

    @classmethod
    def of(cls, run: Run, base: Any) -> LatentCache:
        """That of a run, with its images."""
        kept = KeptArrays.of(run, "latents", base.identity.sha256[:16])
        return cls(kept, base, run.fetch)

    def load(self, images: Sequence[CataloguedImage]) -> tuple[Array, Array]:
        """Means and standard deviations, both (m, C, h, w); encodes what is not there yet."""
        stacked = np.stack([self._latent(image) for image in images])
        return stacked[:, 0], stacked[:, 1]

    def _latent(self, image: CataloguedImage) -> Array:
        known = self.kept.find(image.content_hash)
        return self._encode(image) if known is None else np.asarray(known, np.float32)

    def _encode(self, image: CataloguedImage) -> Array:
        from lorastyle.base.images import load_image
        from lorastyle.base.latents import encode_images

        # Alone, because a batch's size changes the last bits: which images are encoded
        # together depends on the actors' race, and the weights must not.
        pixels = load_image(self.fetch(image.path), self.base.identity.image_size)
        mean, std = encode_images(self.base, np.stack([pixels]))
        latent = np.concatenate([mean, std])
        self.kept.keep(image.content_hash, latent)
        return latent
