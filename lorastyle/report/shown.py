"""What a figure is given: plain records of points, curves and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
StrArray = NDArray[np.str_]


NO_LABEL = "unlabelled"
"""Stands for the artist, and the genre, of adapters of which nobody said whose they are."""


@dataclass(frozen=True)
class Points:
    """Adapters on two components. Shapes: xy (m, 2), the others (m,)."""

    xy: FloatArray
    artists: StrArray
    genres: StrArray
    kinds: StrArray

    def of(self, *kinds: str) -> Points:
        """Only the adapters of these kinds: roles, or `calibration`."""
        return self.where(np.isin(self.kinds, kinds))

    def where(self, keep: NDArray[np.bool_]) -> Points:
        return Points(self.xy[keep], self.artists[keep], self.genres[keep], self.kinds[keep])

    def by(self, artists: Sequence[str]) -> Points:
        """Only the adapters by these artists."""
        return self.where(np.isin(self.artists, artists))

    def by_artist(self) -> list[tuple[str, Points]]:
        """Each artist's adapters; those without a label are nobody's."""
        names = np.unique(self.artists[self.artists != NO_LABEL])
        return [(str(name), self.where(self.artists == name)) for name in names]


@dataclass(frozen=True)
class CurveLine:
    """A sub-network's validation score by PC count. Shapes: x, y and spread (m,)."""

    name: str
    colour: str
    """`#rrggbb` of the light theme."""
    x: NDArray[np.int64]
    y: FloatArray
    spread: FloatArray
    """Half the height of the band about the line."""
    chosen: int | None = None
    argmax: int | None = None
    """Where the largest score was, if elsewhere than at the chosen count."""
    broken: bool = False
    """Its colour is another line's as well."""


@dataclass(frozen=True)
class CurvePanel:
    """Validation score against PC count, a line a sub-network."""

    title: str
    score: str
    """What the axis is of, in words."""
    lines: Sequence[CurveLine]
    note: str = ""
    """Of which adapters, below the title."""
    others: Sequence[CurveLine] = ()
    """Drawn behind the lines, thin and without names."""


@dataclass(frozen=True)
class RankLine:
    """A sub-network's validation score by rank. Shapes: ranks, y and spread (m,)."""

    name: str
    colour: str
    ranks: NDArray[np.int64]
    y: FloatArray
    spread: FloatArray
    truncated: bool


@dataclass(frozen=True)
class RankPanel:
    """Validation score against rank: trained, and cut from the run's own."""

    title: str
    score: str
    lines: Sequence[RankLine]
    note: str = ""


@dataclass(frozen=True)
class DriftPair:
    """Test and calibration adapters over those of the fit, before and after calibration."""

    title: str
    fitted: Points
    before: Points
    after: Points

    @property
    def panels(self) -> tuple[tuple[str, Points], tuple[str, Points]]:
        """(title, test and calibration adapters) of the two panels."""
        return (
            (f"{self.title}, before calibration", self.before),
            (f"{self.title}, after calibration", self.after),
        )

    @property
    def frame(self) -> FloatArray:
        """Lowest and highest x and y of all three, (2, 2): panels share it, so only marks move."""
        xy = np.concatenate([self.fitted.xy, self.before.xy, self.after.xy])
        low, high = xy.min(axis=0), xy.max(axis=0)
        margin = 0.06 * np.maximum(high - low, 1e-9)
        return np.stack([low - margin, high + margin])


@dataclass(frozen=True)
class Comparison:
    """One method in the figure that sets methods side by side; scores are fractions."""

    name: str
    score: float
    std: float | None = None
    uncalibrated: float | None = None
    is_adapter: bool = False
