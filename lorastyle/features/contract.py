"""What an image feature is, and how the features of one adapter's images become one vector.

Every baseline goes through this contract: images in, one vector per image out; an adapter's vector
is the mean over the images it was trained on (paper, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeGuard

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
        """Side in pixels at which it likes to see images; smaller ones need not be enlarged."""

    def identity(self) -> str:
        """Tells it from every other feature: of equal ones, equal images have equal vectors."""

    def encode(self, images: Images) -> Features:
        """Shapes: images uint8 (m, size, size, 3), result float32 (m, dimension)."""


class PictureFeature(ImageFeature, Protocol):
    """A feature that scales and crops by itself, and should be given pictures as they are."""

    def prepare(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture of any size, (height, width, 3), as `encode_prepared` wants it: all alike."""

    def encode_prepared(self, images: Images) -> Features:
        """Shapes: prepared images uint8 (m, crop, crop, 3), result float32 (m, dimension)."""


def takes_pictures(feature: ImageFeature) -> TypeGuard[PictureFeature]:
    """Whether it scales and crops by itself.

    Asked of the class: an instance with weights loads them to answer for its properties.
    """
    return hasattr(type(feature), "prepare")


def check_images(images: Images) -> None:
    """Raise ValueError unless these are RGB images of bytes, (m, height, width, 3)."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"images must be uint8 (m, height, width, 3), not {images.dtype} {images.shape}"
        )


def encode_all(
    feature: ImageFeature, images: Iterable[NDArray[np.uint8]], batch_size: int = 64
) -> Features:
    """Features of any number of images, a batch in memory at a time.

    A PictureFeature takes pictures of any sizes; the others take equally large images.
    Shapes: each image uint8 (height, width, 3), result float32 (m, dimension).
    """
    encode = feature.encode
    if takes_pictures(feature):
        # Prepared as they come: a batch of whole pictures may be larger than memory.
        images, encode = map(feature.prepare, images), feature.encode_prepared
    encoded: list[Features] = []
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        batch.append(image)
        if len(batch) == batch_size:
            encoded.append(encode(np.stack(batch)))
            batch = []
    if batch:
        encoded.append(encode(np.stack(batch)))
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


def image_feature(
    name: str, weights: Mapping[str, str] | None = None, *, generated: bool = False
) -> ImageFeature:
    """The feature of that name; `weights` as `evaluation.feature_weights` has them.

    Nothing is loaded yet: the weights are read, and fetched if need be, when the feature's
    dimension, image size, identity or a vector is first asked for, and that raises FeatureError
    where they cannot be used. `generated` says that images are generated ones, not originals:
    AbC has a mapper for each. Raises ConfigError, listing the names, for an unknown feature or
    key, and for weights that the feature needs and that are not there.
    """
    from lorastyle.features.learned import WEIGHT_KEYS, check_weight_keys, learned_feature

    weights = weights or {}
    check_weight_keys(weights)
    if name in WEIGHT_KEYS:
        return learned_feature(name, weights, generated=generated)
    makers = _makers()
    if name not in makers:
        raise ConfigError(
            f"there is no image feature {name!r}; evaluation.features takes any of "
            f"{', '.join(feature_names())}"
        )
    return makers[name]()


def feature_names() -> tuple[str, ...]:
    """Every name that `image_feature` knows."""
    from lorastyle.features.learned import WEIGHT_KEYS

    return tuple(sorted([*_makers(), *WEIGHT_KEYS]))


def _makers() -> dict[str, Callable[[], ImageFeature]]:
    """Features that have no weights."""
    from lorastyle.features.random_net import GramRandomNet
    from lorastyle.features.simple import ColourHistogram, PixelMean

    return {
        "pixel_mean": PixelMean,
        "colour_histogram": ColourHistogram,
        "gram_random_net": GramRandomNet,
    }
