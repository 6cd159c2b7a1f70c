"""Calibration: the paper's correction of what PCA does to adapters it never saw.

PCA was fitted to the noise of the fit adapters too, so held-out adapters project
nearer the origin than their artist's fit adapters, more so in trailing
components. A scale and a shift per component, learnt from the per-artist means of
a few calibration adapters, undo it on average. Paper, section 3.2 and equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorastyle.config import CalibrationForm
from lorastyle.errors import TooFewAdaptersError

Scores = npt.NDArray[np.float64]
Artists = npt.NDArray[np.generic]

DEGENERATE = 1e-12
"""Relative spread of the calibration means below which no slope can be told."""


@dataclass(frozen=True)
class Calibration:
    """`scale * score + shift` for each of k components; both (k,)."""

    scale: Scores
    shift: Scores

    @classmethod
    def identity(cls, n_components: int) -> Calibration:
        """Changes nothing: where there are no calibration adapters, or none is wanted."""
        return cls(np.ones(n_components), np.zeros(n_components))

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return bool((self.scale == 1).all() and (self.shift == 0).all())

    def apply(self, scores: Scores) -> Scores:
        """Calibrated scores (m, k') of the first k' <= k components."""
        k = scores.shape[1]
        return np.asarray(scores * self.scale[:k] + self.shift[:k])


def fit_calibration(
    calibration_scores: Scores,
    calibration_artists: Artists,
    fit_scores: Scores,
    fit_artists: Artists,
    form: CalibrationForm = "full",
) -> Calibration:
    """Least squares from the artists' mean calibration scores to their mean fit scores.

    Shapes: scores (m, k) and (n_fit, k), artists (m,) and (n_fit,); artists in both
    count. PCA is affine, so the mean of projections is the projection of the mean.
    `full`: s = (sum xy - sum x sum y / n) / (sum x^2 - (sum x)^2 / n),
    t = (sum y - s sum x) / n; equation 3 of the paper prints one sum twice.
    `simple`: s = sum xy / sum x^2, t = 0. `none`: s = 1, t = 0.
    A component on which all x are the same (for `simple`: zero) tells nothing
    apart: its scale is 0, and `full` shifts it to the mean of y.
    Raises TooFewAdaptersError below two common artists (`simple`: one).

    >>> means = np.array([[1.0], [3.0]])
    >>> fit_calibration(means, np.array(["a", "b"]), 2 * means + 1, np.array(["a", "b"]))
    Calibration(scale=array([2.]), shift=array([1.]))
    """
    if form == "none":
        return Calibration.identity(fit_scores.shape[1])
    common = np.intersect1d(calibration_artists, fit_artists)
    needed = 2 if form == "full" else 1
    if len(common) < needed:
        raise TooFewAdaptersError(
            f"calibration needs {needed} artists with both calibration and fit adapters, "
            f"there are {len(common)}; set calibration=0 or add artists"
        )
    x = artist_means(calibration_scores, calibration_artists, common)
    y = artist_means(fit_scores, fit_artists, common)
    return _full(x, y) if form == "full" else _simple(x, y)


def artist_means(scores: Scores, artists: Artists, wanted: Artists) -> Scores:
    """Mean score of each wanted artist's rows: (len(wanted), k)."""
    return np.stack([scores[artists == artist].mean(axis=0) for artist in wanted])


def _full(x: Scores, y: Scores) -> Calibration:
    # About the means: the printed difference of large sums would lose digits.
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    spread = ((x - x_mean) ** 2).sum(axis=0)
    product = ((x - x_mean) * (y - y_mean)).sum(axis=0)
    scale = _ratio(product, spread, (x**2).sum(axis=0))
    return Calibration(scale, y_mean - scale * x_mean)


def _simple(x: Scores, y: Scores) -> Calibration:
    energy = (x**2).sum(axis=0)
    return Calibration(_ratio((x * y).sum(axis=0), energy, energy), np.zeros(x.shape[1]))


def _ratio(numerator: Scores, denominator: Scores, reference: Scores) -> Scores:
    told_apart = denominator > DEGENERATE**2 * reference
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=told_apart)
