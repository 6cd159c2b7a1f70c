"""What an image feature is, and how the features of one adapter's images become one vector.

Every baseline goes through this contract: images in, one vector per image out; an adapter's vector
is the mean over the images it was trained on (paper, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lorastyle.errors import ConfigError

Images = NDArray[np.uint8]
"""RGB images, (m, height, width, 3)."""
Features = NDArray[np.float32]
"""One vector per image, (m, dimension)."""


class ImageFeature(Protocol):
    """Turns images into vectors; deterministic, and blind to who painted them."""

    @property
    def name(self) -> str:
        """By which the configuration asks for it."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    def image_size(self) -> int:
        """Side in pixels at which it likes to see images; smaller ones are not enlarged."""

    def encode(self, images: Images) -> Features:
        """Shapes: images uint8 (m, size, size, 3), result float32 (m, dimension)."""


def check_images(images: Images) -> None:
    """Raise ValueError unless these are RGB images of bytes, (m, height, width, 3)."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"images must be uint8 (m, height, width, 3), not {images.dtype} {images.shape}"
        )


def encode_all(
    feature: ImageFeature, images: Iterable[NDArray[np.uint8]], batch_size: int = 64
) -> Features:
    """Features of any number of equally large images, a batch in memory at a time.

    Shapes: each image uint8 (size, size, 3), result float32 (m, dimension).
    """
    encoded: list[Features] = []
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        batch.append(image)
        if len(batch) == batch_size:
            encoded.append(feature.encode(np.stack(batch)))
            batch = []
    if batch:
        encoded.append(feature.encode(np.stack(batch)))
    return np.concatenate([np.empty((0, feature.dimension), np.float32), *encoded])


def aggregate(features: Features, members: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Mean of the features of each adapter's images; `members` are rows of `features`.

    Shapes: features (m, dimension), result (len(members), dimension).

    >>> aggregate(np.array([[0.0], [1.0], [5.0]], np.float32), [[0, 1], [2]])
    array([[0.5],
           [5. ]])
    """
    if empty := [i for i, rows in enumerate(members) if not len(rows)]:
        raise ValueError(f"set {empty[0]} has no image, so no mean")
    means = [features[list(rows)].mean(axis=0, dtype=np.float64) for rows in members]
    return np.array(means).reshape(len(members), features.shape[1])


def image_feature(name: str) -> ImageFeature:
    """The feature of that name. Raises ConfigError, listing the names, if there is none."""
    makers = _makers()
    if name not in makers:
        raise ConfigError(
            f"there is no image feature {name!r}; evaluation.features takes any of "
            f"{', '.join(sorted(makers))}"
        )
    return makers[name]()


def feature_names() -> tuple[str, ...]:
    """Every name that `image_feature` knows."""
    return tuple(sorted(_makers()))


def _makers() -> dict[str, Callable[[], ImageFeature]]:
    from lorastyle.features.random_net import GramRandomNet
    from lorastyle.features.simple import ColourHistogram, PixelMean

    return {
        "pixel_mean": PixelMean,
        "colour_histogram": ColourHistogram,
        "gram_random_net": GramRandomNet,
    }
