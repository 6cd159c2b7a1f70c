"""What adapters are trained on: their images' cached latents, and their texts.

Everything frozen is computed once. Latents depend on the image alone and are kept
in the run, one small file an image, so that all actors and later attempts share
them; of a run in a bucket a copy stays on each machine. Texts carry each adapter's
own identifier and are embedded as needed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.corpus.captions import with_identifier
from lorastyle.errors import CorpusError
from lorastyle.places.place import Place
from lorastyle.records import AdapterSpec
from lorastyle.runs import Run, write_atomically

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
class KeptArrays:
    """Arrays in files of a directory, and in a bucket behind it where the run lies in one.

    A file is replaced whole, and two processes that make the same array do harmless
    double work. What is damaged counts as absent.
    """

    directory: Path
    bucket: Place | None = None

    @classmethod
    def of(cls, run: Run, *names: str) -> KeptArrays:
        """Those in this folder of a run."""
        directory, place = run.directory, run.place
        for name in names:
            directory, place = directory / name, place.child(name)
        return cls(directory, None if run.url is None else place)

    def find(self, name: str) -> npt.NDArray[Any] | None:
        """From here, or else from the bucket; None where it is nowhere."""
        known = _load(self.directory / f"{name}.npy")
        if known is not None or self.bucket is None:
            return known
        content = self.bucket.read(f"{name}.npy")
        known = None if content is None else _load(io.BytesIO(content))
        if content is not None and known is not None:
            write_atomically(self.directory / f"{name}.npy", content, durable=False)
        return known

    def keep(self, name: str, array: npt.NDArray[Any]) -> None:
        """Write it here and to the bucket."""
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        if self.bucket is not None:
            self.bucket.write(f"{name}.npy", [buffer.getvalue()])
        write_atomically(self.directory / f"{name}.npy", buffer.getvalue())


def _load(file: Path | io.BytesIO) -> npt.NDArray[Any] | None:
    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError):  # absent, or cut short by a full disk
        return None


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


def texts_of(
    spec: AdapterSpec, images: Sequence[CataloguedImage], *, identifier: bool
) -> list[str]:
    """The texts an adapter is trained with: its token before each caption."""
    token = spec.token if identifier else ""
    return [with_identifier(token, image.caption) for image in images]
