"""Smaller databases inside a database: m adapters of each artist that the PCA is fitted on.

What calibrates and what is held out stays the same, so that m is all that differs. The adapters
are those a task fits on: in clustering without the last few of an artist, which calibrate.

A draw is an order of each artist's adapters; its first m are the smaller database. So the
databases of one draw lie inside each other, and m is compared on the same draws.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.embedding.style_space import Task, split_rows
from lorastyle.records import UNLABELLED

SEED = 0
LADDER = (1, 2, 3, 4, 6, 9, 12, 18, 24, 36, 48, 72, 96)


def largest_gallery(table: pd.DataFrame, task: Task, n_calibration: int) -> int:
    """The most adapters of one artist that a task is fitted on; 0 where none has a label."""
    counts = _fit_table(table, task, n_calibration)["artist"].value_counts()
    return int(counts.max()) if len(counts) else 0


def gallery_table(
    table: pd.DataFrame, task: Task, n_calibration: int, m: int, draw: int
) -> pd.DataFrame:
    """The lines of `table` but for the fit adapters beyond m an artist, in their order.

    Artists with fewer keep all they have; so do adapters without a label, which have no artist.
    """
    fit = _fit_table(table, task, n_calibration)
    rng = np.random.default_rng([SEED, draw])
    beyond: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for _, rows in fit.groupby("artist", sort=True)["row"]:
        beyond.append(rng.permutation(np.sort(rows.to_numpy(np.int64)))[m:])
    return table[~table["row"].isin(np.concatenate(beyond))]


def gallery_sizes(largest: dict[Task, int]) -> tuple[int, ...]:
    """Sizes to try where none are named: a ladder up to all adapters of each task.

    >>> gallery_sizes({"clustering": 21, "retrieval": 24})
    (1, 2, 3, 4, 6, 9, 12, 18, 21, 24)
    """
    most = max(largest.values())
    sizes = {size for size in LADDER if size < most}
    return tuple(sorted(sizes | {size for size in largest.values() if size > 0}))


def _fit_table(table: pd.DataFrame, task: Task, n_calibration: int) -> pd.DataFrame:
    fit_rows, _ = split_rows(table, task, n_calibration)
    return table[table["row"].isin(fit_rows) & (table["artist"] != UNLABELLED)]
