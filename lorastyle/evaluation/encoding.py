"""Image features of all images of a run, a chunk at a time, and kept: nothing is encoded twice.

A chunk is a file that is named after everything it was made from: the feature and its weights, the
pictures, the size they were seen at. So a run that is evaluated again reads it, an interrupted
one goes on, and on a cluster actors make chunks before the evaluation asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorastyle.corpus.stage import corpus_root, read_catalogue
from lorastyle.features.contract import (
    Features,
    ImageFeature,
    encode_all,
    image_feature,
    takes_pictures,
)
from lorastyle.generation.kept import GeneratedImages
from lorastyle.records import digest
from lorastyle.runs import Run
from lorastyle.runs.kept import KeptArrays

Picture = NDArray[np.uint8]
"""(height, width, 3)."""
CHUNK = 256
"""Images that are encoded and kept together, about."""


class Pictures(Protocol):
    """The pictures of a run, in groups that stay together: an image each, or an adapter's."""

    @property
    def sizes(self) -> Sequence[int]:
        """How many pictures each group has."""

    def keys(self, groups: range, feature: ImageFeature) -> list[str]:
        """What tells these groups from any others, as the feature sees them."""

    def load(self, groups: range, feature: ImageFeature) -> Iterator[Picture]:
        """The pictures of these groups, in order."""


@dataclass(frozen=True)
class Originals:
    """The images of the catalogue, in its order: the square of each that adapters are trained on.

    A feature that scales by itself is given it in full resolution; others see the size they like,
    or that of the smallest image of the catalogue: none is enlarged.
    """

    run: Run
    catalogue: pd.DataFrame
    root: Path

    @classmethod
    def of(cls, run: Run) -> Originals:
        """Those of a planned run."""
        return cls(run, read_catalogue(run), corpus_root(run))

    @property
    def sizes(self) -> Sequence[int]:
        return [1] * len(self.catalogue)

    def keys(self, groups: range, feature: ImageFeature) -> list[str]:
        hashes = self.catalogue["content_hash"].iloc[list(groups)]
        sides = self._seen(groups, feature)
        return [f"{known} {side}" for known, side in zip(hashes, sides, strict=True)]

    def load(self, groups: range, feature: ImageFeature) -> Iterator[Picture]:
        from lorastyle.base.images import load_image

        paths = [self.root / str(path) for path in self.catalogue["path"].iloc[list(groups)]]
        self.run.fetch_all(paths)
        for path, side in zip(paths, self._seen(groups, feature), strict=True):
            yield load_image(path, side)

    def _seen(self, groups: range, feature: ImageFeature) -> list[int]:
        """The side in pixels at which the feature sees each image."""
        if takes_pictures(feature):
            return [int(self._sides[i]) for i in groups]
        return [min(feature.image_size, int(self._sides.min()))] * len(groups)

    @cached_property
    def _sides(self) -> NDArray[np.int64]:
        sides: NDArray[np.int64] = self.catalogue[["width", "height"]].to_numpy(np.int64)
        return np.asarray(sides.min(axis=1))


@dataclass(frozen=True)
class Generated:
    """Images that adapters generated, a group an adapter, in the order of `rows`."""

    run: Run
    rows: Sequence[int]

    @property
    def sizes(self) -> Sequence[int]:
        return [size for _, size in self._contents]

    def keys(self, groups: range, feature: ImageFeature) -> list[str]:
        return [self._contents[i][0] for i in groups]

    def load(self, groups: range, feature: ImageFeature) -> Iterator[Picture]:
        for images in self._images.read([self.rows[i] for i in groups]):
            yield from images

    @cached_property
    def _contents(self) -> list[tuple[str, int]]:
        """Read once, also where many features look at them: a record of each adapter."""
        return self._images.contents(self.rows)

    @property
    def _images(self) -> GeneratedImages:
        return GeneratedImages.of(self.run)


@dataclass(frozen=True)
class Encoding:
    """One feature of the pictures of a run."""

    run: Run
    feature: ImageFeature
    pictures: Pictures

    @cached_property
    def chunks(self) -> list[range]:
        """Groups that are encoded together."""
        found, start, n_pictures = [], 0, 0
        for group, size in enumerate(self.pictures.sizes):
            if n_pictures and n_pictures + size > CHUNK:
                found.append(range(start, group))
                start, n_pictures = group, 0
            n_pictures += size
        return [*found, range(start, len(self.pictures.sizes))] if n_pictures else []

    def missing(self) -> list[int]:
        """Numbers of chunks that are not kept yet."""
        return [i for i, chunk in enumerate(self.chunks) if not self._kept.has(self._name(chunk))]

    def make(self, number: int) -> Features:
        """Encode a chunk and keep it."""
        chunk = self.chunks[number]
        encoded = encode_all(self.feature, self.pictures.load(chunk, self.feature))
        self._kept.keep(self._name(chunk), encoded)
        return encoded

    def read(self) -> Features:
        """The features of all pictures, (m, dimension), in order; makes what is missing.

        Where all are kept, nothing is loaded to encode with: files of weights are only read
        through, once a process, since their hashes say whose features are kept.
        """
        parts = self._find_all(self.feature.identity())
        kept = _together(parts)
        if kept is not None:
            return kept
        dimension = self.feature.dimension
        made = [
            part if part is not None and part.shape[1] == dimension else self.make(number)
            for number, part in enumerate(parts)
        ]
        return np.concatenate([np.empty((0, dimension), np.float32), *made])

    def read_kept(self, identity: str) -> Features | None:
        """The features as kept of a feature of that identity, without its weights.

        None where some are not kept, or there are no pictures: nothing is encoded.
        """
        return _together(self._find_all(identity))

    def _find_all(self, identity: str) -> list[Features | None]:
        return [self._find(chunk, identity) for chunk in self.chunks]

    def _find(self, chunk: range, identity: str) -> Features | None:
        """A chunk as kept, a vector for each of its pictures; None where it is not."""
        kept = self._kept.find(self._name(chunk, identity))
        sizes = self.pictures.sizes
        if kept is None or kept.ndim != 2 or len(kept) != sum(sizes[i] for i in chunk):
            return None
        return np.asarray(kept, np.float32)

    def _name(self, chunk: range, identity: str | None = None) -> str:
        identity = self.feature.identity() if identity is None else identity
        return digest([identity, self.pictures.keys(chunk, self.feature)])[:24]

    @property
    def _kept(self) -> KeptArrays:
        return KeptArrays.of(self.run, "features", self.feature.name)


def _together(parts: Sequence[Features | None]) -> Features | None:
    """All chunks in a row; None where one is missing, or there is none."""
    found = [part for part in parts if part is not None]
    # Vectors of two lengths are not of one feature: some chunk is damaged.
    one_length = len({part.shape[1] for part in found}) == 1
    return np.concatenate(found) if one_length and len(found) == len(parts) else None


def feature_of(run: Run, name: str, *, generated: bool = False) -> ImageFeature:
    """A feature with the weights that the experiment names."""
    weights = run.experiment.evaluation.feature_weights
    return image_feature(name, weights, generated=generated)
