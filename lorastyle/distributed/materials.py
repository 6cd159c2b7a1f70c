"""What adapters are trained on: their images' cached latents, and their texts.

Everything frozen is computed once. Latents depend on the image alone and are kept
in the run, one small file an image, so that all actors and later attempts share
them. Texts carry each adapter's own identifier and are embedded as needed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.corpus.captions import with_identifier
from lorastyle.errors import CorpusError
from lorastyle.records import AdapterSpec
from lorastyle.runs import write_atomically

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CataloguedImage:
    """What training needs to know of an image."""

    path: Path
    caption: str
    content_hash: str


def index_catalogue(catalogue: pd.DataFrame, root: Path) -> dict[str, CataloguedImage]:
    """The catalogue's images by id, with absolute paths."""
    columns = (catalogue[name] for name in ("image_id", "path", "caption", "content_hash"))
    return {
        str(image_id): CataloguedImage(root / str(path), str(caption), str(content_hash))
        for image_id, path, caption, content_hash in zip(*columns, strict=True)
    }


def images_of(spec: AdapterSpec, images: Mapping[str, CataloguedImage]) -> list[CataloguedImage]:
    """An adapter's images in its order. Raises CorpusError naming one that is not there."""
    missing = [image_id for image_id in spec.image_ids if image_id not in images]
    if missing:
        raise CorpusError(
            f"adapter {spec.adapter_id!r} wants {len(missing)} images that the catalogue lacks, "
            f"first {missing[0]!r}; plan the run again with --force"
        )
    return [images[image_id] for image_id in spec.image_ids]


@dataclass(frozen=True)
class LatentCache:
    """Mean and standard deviation of each image's latent, in one file an image.

    `directory` belongs to one base model. A file is replaced whole, so two actors
    that encode the same image do harmless double work.
    """

    directory: Path
    base: Any

    def load(self, images: Sequence[CataloguedImage]) -> tuple[Array, Array]:
        """Means and standard deviations, both (m, C, h, w); encodes what is not there yet."""
        stacked = np.stack([self._latent(image) for image in images])
        return stacked[:, 0], stacked[:, 1]

    def _latent(self, image: CataloguedImage) -> Array:
        known = self._read(image)
        return self._encode(image) if known is None else known

    def _path(self, image: CataloguedImage) -> Path:
        return self.directory / f"{image.content_hash}.npy"

    def _read(self, image: CataloguedImage) -> Array | None:
        try:
            latent = np.load(self._path(image))
        except (OSError, ValueError, EOFError):  # absent, or cut short by a full disk
            return None
        return np.asarray(latent, np.float32)

    def _encode(self, image: CataloguedImage) -> Array:
        from lorastyle.base.images import load_image
        from lorastyle.base.latents import encode_images

        # Alone, because a batch's size changes the last bits: which images are encoded
        # together depends on the actors' race, and the weights must not.
        pixels = load_image(image.path, self.base.identity.image_size)
        mean, std = encode_images(self.base, np.stack([pixels]))
        latent = np.concatenate([mean, std])
        self._write(image, latent)
        return latent

    def _write(self, image: CataloguedImage, latent: Array) -> None:
        buffer = io.BytesIO()
        np.save(buffer, latent)
        write_atomically(self._path(image), buffer.getvalue())


def texts_of(
    spec: AdapterSpec, images: Sequence[CataloguedImage], *, identifier: bool
) -> list[str]:
    """The texts an adapter is trained with: its token before each caption."""
    token = spec.token if identifier else ""
    return [with_identifier(token, image.caption) for image in images]
