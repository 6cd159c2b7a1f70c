"""How sure a score is: intervals over the artists, on the vectors that were measured.

Adapters of one artist are not independent: an artist is easy or hard to find as a whole. So what
is drawn again is artists, each with all of their queries (the one-stage cluster bootstrap: Davison
and Hinkley 1997, "Bootstrap methods and their application", section 3.8). Drawing queries instead
gives intervals that are too narrow; they stand beside for comparison with others'.

Scores that compare pairs of adapters, as the ARI does, must not see an adapter twice: a copy
always agrees with itself. For them artists are left out one at a time (the jackknife: Efron and
Stein 1981, "The jackknife estimate of variance").

Fixed in both: the fit adapters, hence the gallery, the style space and the clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from lorastyle.evaluation.labelled import FloatArray

LEVEL = 0.95
N_RESAMPLES = 10_000
SEED = 0
"""The same for every method, so that all are judged on the same draws of the same artists."""

MOST_COUNTS = 4_000_000
"""Of draws in memory at a time: 32 MB."""

Interval = tuple[float, float]


def bootstrap_means(
    values: FloatArray,
    groups: NDArray[np.generic],
    *,
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
) -> FloatArray:
    """Percentile intervals of the means of the values, groups being drawn with replacement.

    Shapes: values (n, s), groups (n,), result (s, 2). A mean is over all drawn values, so a
    group counts by its size. Percentiles are those of the expanded percentile interval
    (Hesterberg 2015, "What teachers should know about the bootstrap"): plain ones are
    too narrow where groups are few, as a normal interval is beside Student's. Raises ValueError
    for fewer than two groups: one says nothing of others.

    >>> bootstrap_means(np.array([[0.0], [1.0]]), np.array(["a", "b"]))
    array([[0., 1.]])
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"an interval over groups needs at least 2, there are {len(names)}")
    sums = np.stack([np.bincount(member, column, len(names)) for column in values.T], axis=1)
    sizes = np.bincount(member).astype(np.float64)[:, None]
    draws = _draws(len(names), n_resamples, seed)
    means = np.concatenate([(counts @ sums) / (counts @ sizes) for counts in draws])
    tail = _expanded_tail(level, len(names))
    return np.asarray(np.quantile(means, [tail, 1 - tail], axis=0).T)


def _expanded_tail(level: float, n_groups: int) -> float:
    """The part of the draws below the interval, and above it."""
    reach = stdtrit(n_groups - 1, (1 + level) / 2) * np.sqrt(n_groups / (n_groups - 1))
    return float(ndtr(-reach))


def _draws(n_groups: int, n_resamples: int, seed: int) -> Iterable[FloatArray]:
    """How often each group is drawn, (n, n_groups): all n resamples, some at a time."""
    if n_groups * n_resamples <= MOST_COUNTS:
        return _few_draws(n_groups, n_resamples, seed)
    return _blocks(n_groups, n_resamples, seed)


@lru_cache(maxsize=4)
def _few_draws(n_groups: int, n_resamples: int, seed: int) -> tuple[FloatArray, ...]:
    """Kept, since every method of a run is judged on the same ones."""
    return tuple(_blocks(n_groups, n_resamples, seed))


def _blocks(n_groups: int, n_resamples: int, seed: int) -> Iterator[FloatArray]:
    rng, most = np.random.default_rng(seed), max(1, MOST_COUNTS // n_groups)
    for start in range(0, n_resamples, most):
        size = min(most, n_resamples - start)
        drawn = rng.integers(n_groups, size=(size, n_groups))
        drawn += n_groups * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n_groups)
        yield counts.reshape(size, n_groups).astype(np.float64)


def jackknife_error(left_out: FloatArray) -> float:
    """Standard error of a score, from its values without each of the n groups (n,).

    >>> jackknife_error(np.array([1.0, 3.0]))
    1.0
    """
    n_groups = len(left_out)
    if n_groups < 2:
        raise ValueError(f"a jackknife needs at least 2 groups, there are {n_groups}")
    return float(np.sqrt((n_groups - 1) * left_out.var()))


def jackknife_interval(
    score: float, left_out: FloatArray, *, within: Interval, level: float = LEVEL
) -> Interval:
    """Student's interval about a score, from its values without each of the n groups (n,).

    It ends where the score does: `within` are the smallest and the largest value it can have.
    Student's interval knows no such ends, and of few groups it reaches far: over three it is 8.6
    standard errors wide. The truth lies within, so cutting it never loses the truth.

    >>> jackknife_interval(0.5, np.array([0.0, 0.5, 1.0]), within=(-0.5, 1.0))
    (-0.5, 1.0)
    """
    lowest, highest = within
    reach = float(stdtrit(len(left_out) - 1, (1 + level) / 2)) * jackknife_error(left_out)
    return max(score - reach, lowest), min(score + reach, highest)
