"""Vectors with labels: all that a metric sees.

A metric cannot tell an adapter's scores from an image feature, so every method of a comparison
goes through the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

UNCALIBRATED = "uncalibrated"


@dataclass(frozen=True)
class LabelledVectors:
    """One vector and one artist per adapter.

    Shapes: vectors (n, k), artists (n,). Raises ValueError where they do not fit together.
    """

    vectors: FloatArray
    artists: NDArray[np.str_]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.artists.shape != self.vectors.shape[:1]:
            raise ValueError(
                f"{self.artists.shape} artists do not label vectors of shape {self.vectors.shape}"
            )

    def __len__(self) -> int:
        return len(self.artists)

    def first(self, n_components: int) -> LabelledVectors:
        """The same adapters under their first components only."""
        return LabelledVectors(self.vectors[:, :n_components], self.artists)


@dataclass(frozen=True)
class TaskVectors:
    """What a task compares: the fit set (or gallery), and the held-out sets by name.

    `uncalibrated` holds the same held-out adapters before calibration, where there is one.
    """

    fit: LabelledVectors
    held_out: Mapping[str, LabelledVectors]
    uncalibrated: Mapping[str, LabelledVectors] = field(default_factory=dict)

    @property
    def n_components(self) -> int:
        """Length of the vectors."""
        return int(self.fit.vectors.shape[1])

    @property
    def parts(self) -> dict[str, LabelledVectors]:
        """All held-out sets in one; names of those before calibration begin `uncalibrated/`."""
        before = {f"{UNCALIBRATED}/{name}": part for name, part in self.uncalibrated.items()}
        return dict(self.held_out) | before

    def first(self, n_components: int) -> TaskVectors:
        """The same task under the first components only."""
        return TaskVectors(
            self.fit.first(n_components),
            {name: part.first(n_components) for name, part in self.held_out.items()},
            {name: part.first(n_components) for name, part in self.uncalibrated.items()},
        )
