"""Features with weights behind them: named at once, loaded when the first image comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lorastyle.errors import ConfigError, FeatureError
from lorastyle.features.contract import Features, Images, check_images
from lorastyle.features.weights import Weights
from lorastyle.records import digest

if TYPE_CHECKING:
    from lorastyle.features.encoder import Encoder

NUMERICS_VERSION = 1
"""Raised when the same weights would give other numbers."""

CLIP_BASE = "openai/clip-vit-base-patch32"
DINO_BASE = "facebook/dino-vitb16"

WEIGHT_KEYS: Mapping[str, Mapping[str, str | None]] = {
    "clip": {"clip": CLIP_BASE},
    "dino": {"dino": DINO_BASE},
    "abc_clip": {"abc_clip_backbone": CLIP_BASE, "abc_clip_mapper": None},
    "abc_dino": {"abc_dino_backbone": DINO_BASE, "abc_dino_mapper": None},
    "csd": {"csd": "tomg-group-umd/CSD-ViT-L"},
    "aladin": {"aladin": None},
}
"""The keys of `evaluation.feature_weights` that each feature reads, with their defaults."""


@dataclass(frozen=True)
class LearnedFeature:
    """An image feature whose weights are published, or the user's."""

    name: str
    weights: Mapping[str, Weights]
    generated: bool = False
    """Whether images are generated ones: AbC maps those by another matrix."""

    @property
    def dimension(self) -> int:
        return self._encoder.dimension

    @property
    def image_size(self) -> int:
        return self._encoder.preprocessing.resize

    def identity(self) -> str:
        """As the contract says. Reads the files through, fetching them if need be."""
        files = {key: one.sha256 for key, one in self.weights.items()}
        has_two = self.name.startswith("abc_")
        return digest([NUMERICS_VERSION, self.name, files, has_two and self.generated])

    def prepare(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As the contract says. Raises FeatureError where the weights cannot be used."""
        return self._encoder.preprocessing.prepare(picture)

    def encode_prepared(self, images: Images) -> Features:
        """As the contract says. Raises FeatureError where the result is not finite."""
        features = self._encoder.encode(images)
        if not np.isfinite(features).all():
            raise FeatureError(
                f"image feature {self.name} gives numbers that are not finite; its weights are "
                "damaged: " + ", ".join(map(str, self.weights.values()))
            )
        return features

    def encode(self, images: Images) -> Features:
        """Images of any one size. Shapes: (m, height, width, 3), result (m, dimension)."""
        check_images(images)
        if not len(images):
            return np.empty((0, self.dimension), np.float32)
        return self.encode_prepared(np.stack([self.prepare(image) for image in images]))

    @cached_property
    def _encoder(self) -> Encoder:
        from lorastyle.features.published import load_encoder

        return load_encoder(self.name, self.weights, generated=self.generated)


def learned_feature(
    name: str, weights: Mapping[str, str], *, generated: bool = False
) -> LearnedFeature:
    """The feature of that name. Nothing is read or fetched yet.

    Raises ConfigError for weights that are not here, or that the feature needs and has not.
    """
    chosen = {}
    for key, default in WEIGHT_KEYS[name].items():
        value = weights.get(key, default)
        if value is None:
            raise ConfigError(
                f"image feature {name} has no weights that can be fetched; set "
                f"evaluation.feature_weights.{key} to a file of them"
            )
        chosen[key] = Weights(key, value)
    return LearnedFeature(name, chosen, generated)


def check_weight_keys(weights: Mapping[str, str]) -> None:
    """Raise ConfigError for a key that no feature reads."""
    known = sorted(key for keys in WEIGHT_KEYS.values() for key in keys)
    if unknown := sorted(set(weights) - set(known)):
        raise ConfigError(
            f"evaluation.feature_weights has no key {unknown[0]!r}; it takes any of "
            f"{', '.join(known)}"
        )
