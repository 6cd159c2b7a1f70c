"""How often the intervals of `evaluate` hold the truth: 95 % are meant to.

    python -m benchmarks.interval_coverage [--json]

Artists are drawn from a known population, with all of their queries or adapters, again and again.
A query's AP is Beta-distributed about its artist's mean, which is Beta-distributed about 0.75, as
spread out as AP is: three fifths of the variance lie between artists. For the ARI each artist has
three adapters and a habit of their own of being taken for another. The truth is the mean over
all draws.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.evaluation.agreement import (
    ARI_RANGE,
    adjusted_rand_indices,
    contingencies,
    without_each_truth,
)
from lorastyle.evaluation.intervals import bootstrap_means, jackknife_interval

N_ARTISTS = (12, 20, 63)
N_QUERIES, N_ADAPTERS = 5, 3
MEAN = 0.75
BETWEEN, WITHIN = 4.0, 5.0
"""Concentrations of an artist's mean, and of a query about it."""
N_RESAMPLES = 1_000
SEED = 0

Matrix = npt.NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interval_coverage")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--draws", type=int, default=1_000, help="databases to draw of each size")
    options = parser.parse_args(arguments)
    rows = [coverage(n_artists, options.draws) for n_artists in N_ARTISTS]
    if options.json:
        print(json.dumps({"draws": options.draws, "rows": rows}, indent=2, allow_nan=False))
    print(render(rows), file=sys.stderr if options.json else sys.stdout)


def coverage(n_artists: int, n_draws: int) -> dict[str, Any]:
    """The share of intervals that hold the truth, of each kind."""
    rng = np.random.default_rng(SEED)
    groups = np.repeat(np.arange(n_artists), N_QUERIES)
    kinds = {"artists": groups, "queries": np.arange(len(groups))}
    hits = dict.fromkeys(kinds, 0)
    for _ in range(n_draws):
        scores = queries(rng, n_artists)
        for kind, each in kinds.items():
            low, high = bootstrap_means(scores[:, None], each, n_resamples=N_RESAMPLES)[0]
            hits[kind] += low <= MEAN <= high
    scored, ends = [], []
    for _ in range(n_draws):
        table = confusions(rng, n_artists)
        scored.append(float(adjusted_rand_indices(table)[0]))
        left_out = without_each_truth(table)[0][0]
        ends.append(jackknife_interval(scored[-1], left_out, within=ARI_RANGE))
    truth = np.mean(scored)
    jackknife = sum(low <= truth <= high for low, high in ends)
    return {
        "artists": n_artists,
        "map_artists": hits["artists"] / n_draws,
        "map_queries": hits["queries"] / n_draws,
        "ari_jackknife": jackknife / n_draws,
        "ari": float(truth),
    }


def queries(rng: np.random.Generator, n_artists: int) -> Matrix:
    """AP of every query, artist by artist."""
    own = rng.beta(BETWEEN * MEAN, BETWEEN * (1 - MEAN), n_artists).clip(0.01, 0.99)
    means = np.repeat(own, N_QUERIES)
    return rng.beta(WITHIN * means, WITHIN * (1 - means))


def confusions(rng: np.random.Generator, n_artists: int) -> npt.NDArray[np.int64]:
    """How many adapters of each artist are in each cluster, (1, n_artists, n_clusters)."""
    truth = np.repeat(np.arange(n_artists), N_ADAPTERS)
    right = rng.beta(2.0, 0.7, n_artists)[truth]
    found = np.where(
        rng.random(len(truth)) < right, truth, rng.integers(n_artists, size=len(truth))
    )
    return contingencies(truth, found[None])


def render(rows: Sequence[dict[str, Any]]) -> str:
    """The coverages as a table."""
    lines = [
        "| artists | mAP, artists drawn | mAP, queries drawn | ARI, jackknife |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        shares = (row[name] for name in ("map_artists", "map_queries", "ari_jackknife"))
        lines.append(f"| {row['artists']} | {' | '.join(f'{100 * one:.1f} %' for one in shares)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
