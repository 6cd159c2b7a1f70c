"""Baselines of the eye: a thumbnail, and how often each colour occurs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorastyle.features.contract import Features, Images, check_images

FloatArray = NDArray[np.float32]

THUMBNAIL = 64
"""Side of the thumbnail, in pixels. 16 and 32 were tried, and find fewer artists."""

LAB_LOW = (0.0, -60.0, -60.0)
LAB_HIGH = (100.0, 60.0, 60.0)
"""Range of L, a, b that is binned; paint seldom lies outside, and is then counted at the edge."""

# sRGB (D65) to CIE XYZ, IEC 61966-2-1; rows divided by the white point.
_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])


@dataclass(frozen=True)
class PixelMean:
    """The pixels of the image at 64 x 64, in [0, 1], minus mid-grey.

    The mean over an artist's images keeps usual colours and composition. Mid-grey
    is taken off so that cosine compares pictures, not their common brightness.
    """

    name: str = "pixel_mean"
    dimension: int = 3 * THUMBNAIL**2
    image_size: int = THUMBNAIL

    def identity(self) -> str:
        return f"{self}"

    def encode(self, images: Images) -> Features:
        check_images(images)
        small = _area_resize(images.astype(np.float32) / 255.0, THUMBNAIL)
        return small.reshape(len(images), self.dimension) - np.float32(0.5)


@dataclass(frozen=True)
class ColourHistogram:
    """Joint histogram of CIE L*a*b*, 12 bins a channel, square root of the shares.

    Each pixel is shared linearly among its eight nearest bins, so that a colour
    at a bin's edge does not jump. Euclidean distance of square roots is
    Hellinger's distance, which k-means and cosine then both use.
    """

    name: str = "colour_histogram"
    bins: int = 12
    image_size: int = 128

    @property
    def dimension(self) -> int:
        return self.bins**3

    def identity(self) -> str:
        return f"{self}"

    def encode(self, images: Images) -> Features:
        check_images(images)
        return np.sqrt(np.stack([self._shares(image) for image in images])).astype(np.float32)

    def _shares(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        low, high = np.array(LAB_LOW), np.array(LAB_HIGH)
        lab = srgb_to_lab(image.reshape(-1, 3))
        position = np.clip((lab - low) / (high - low), 0.0, 1.0) * (self.bins - 1)
        base = np.minimum(position.astype(np.int64), self.bins - 2)
        part = position - base
        shares = np.zeros(self.dimension)
        for corner in np.ndindex(2, 2, 2):
            weight = np.where(corner, part, 1.0 - part).prod(axis=1)
            index = np.ravel_multi_index(tuple((base + corner).T), (self.bins,) * 3)
            shares += np.bincount(index, weights=weight, minlength=self.dimension)
        return np.asarray(shares / len(lab))


def srgb_to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIE 1976 L*a*b* (white D65) of 8-bit sRGB; the last axis holds the channels.

    >>> srgb_to_lab(np.array([[255, 255, 255]], np.uint8)).round(1) + 0.0
    array([[100.,   0.,   0.]])
    """
    encoded = pixels / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    relative = linear @ _RGB_TO_XYZ.T
    root = np.where(relative > 216 / 24389, np.cbrt(relative), (24389 / 27 * relative + 16) / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _area_resize(images: FloatArray, size: int) -> FloatArray:
    """Mean colour of each cell of a size x size grid, whatever the images' own size."""
    rows = _cell_means(images, 1, size)
    return _cell_means(rows, 2, size)


def _cell_means(images: FloatArray, axis: int, size: int) -> FloatArray:
    length = images.shape[axis]
    edges = np.arange(size) * length // size
    ends = np.maximum((np.arange(size) + 1) * length // size, edges + 1)
    cells = [
        images.take(range(start, stop), axis=axis).mean(axis=axis)
        for start, stop in zip(edges, ends, strict=True)
    ]
    return np.stack(cells, axis=axis)
