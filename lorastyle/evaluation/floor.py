"""What chance scores: the expectation of every metric where nothing is known of style.

Retrieval: all orders of the gallery are equally likely. Clustering: the labels are dealt to the
adapters at random, as many of each artist as there are. Both expectations are exact.

Recall is as low as the share of the gallery that is looked at. The ARI is 0, which is what it is
adjusted for. The NMI is not adjusted, and far above 0 where artists have few adapters each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from lorastyle.config import Experiment
from lorastyle.embedding.style_space import split_rows
from lorastyle.evaluation.clustering import FIT
from lorastyle.evaluation.labelled import FloatArray
from lorastyle.evaluation.protocol import HELD_OUT, ProtocolSettings
from lorastyle.records import UNLABELLED, Role

Artists = NDArray[np.str_]


def random_average_precision(n_gallery: int, n_relevant: int) -> float:
    """Expected AP of a random order of a gallery that holds so many relevant adapters.

    At rank i stands a relevant adapter with probability R / n; then each of the i - 1 before it
    is relevant with probability (R - 1) / (n - 1). Source: Bestgen 2015, "Exact expected average
    precision of the random baseline for system evaluation".

    >>> random_average_precision(2, 1)
    0.75
    """
    if not 1 <= n_relevant <= n_gallery:
        raise ValueError(f"{n_relevant} of {n_gallery} gallery adapters cannot be relevant")
    harmonic = float((1 / np.arange(1, n_gallery + 1)).sum())
    before = (n_relevant - 1) / max(n_gallery - 1, 1)
    return (harmonic + before * (n_gallery - harmonic)) / n_gallery


def random_average_precision_at_k(n_gallery: int, n_relevant: int, top_k: int) -> float:
    """Expected AP at k (`retrieval.py`) of a random order.

    With m relevant adapters among the first k, their order is random too, and its expected AP
    is linear in m; m is hypergeometric.

    >>> random_average_precision_at_k(2, 1, 1)
    0.5
    """
    k = min(top_k, n_gallery)
    harmonic = float((1 / np.arange(1, k + 1)).sum())
    hit = 1 - np.exp(_log_binomial(n_gallery - n_relevant, k) - _log_binomial(n_gallery, k))
    more = k * n_relevant / n_gallery - hit
    return float((harmonic * hit + more * (k - harmonic) / max(k - 1, 1)) / k)


def random_recall_at_k(n_gallery: int, top_k: int) -> float:
    """Expected share of the relevant adapters among the first k.

    >>> random_recall_at_k(10, 3)
    0.3
    """
    return min(top_k, n_gallery) / n_gallery


def random_retrieval(gallery: Artists, queries: Artists, top_k: int) -> dict[str, float]:
    """`{"map", "map_at_k", "recall_at_k"}` over the queries whose artist is in the gallery.

    Shapes: artists (n_gallery,) and (n_queries,). Empty where no query can be answered.
    """
    names, counts = np.unique(gallery, return_counts=True)
    n_relevant = dict(zip(names.tolist(), counts.tolist(), strict=True))
    sizes = [n_relevant[name] for name in queries.tolist() if name in n_relevant]
    if not sizes:
        return {}
    n, asked = len(gallery), {size: sizes.count(size) / len(sizes) for size in set(sizes)}
    return {
        "map": sum(share * random_average_precision(n, size) for size, share in asked.items()),
        "map_at_k": sum(
            share * random_average_precision_at_k(n, size, top_k) for size, share in asked.items()
        ),
        "recall_at_k": random_recall_at_k(n, top_k),
    }


def random_clustering(artists: Artists) -> dict[str, float]:
    """`{"ari", "nmi"}` of the labels (n,) and a random deal of the same; empty below two artists.

    Source of the expected mutual information: Vinh, Epps and Bailey 2010, "Information theoretic
    measures for clusterings comparison".
    """
    sizes, counts = np.unique(np.unique(artists, return_counts=True)[1], return_counts=True)
    if counts.sum() < 2:
        return {}
    n = int((sizes * counts).sum())
    entropy = float(-(counts * (sizes / n) * np.log(sizes / n)).sum())
    shared = sum(
        float(ours * theirs) * _expected_term(int(a), int(b), n)
        for a, ours in zip(sizes, counts, strict=True)
        for b, theirs in zip(sizes, counts, strict=True)
    )
    return {"ari": 0.0, "nmi": shared / entropy}


def floor_section(table: pd.DataFrame, experiment: Experiment) -> dict[str, Any]:
    """`{"clustering": {"train|val|test": {...}}, "retrieval": {"val|test": {...}}}`.

    `table` has a line for each embedded adapter. What cannot be told is absent.
    """
    known = table[table["artist"] != UNLABELLED]

    def artists(rows: pd.Series[bool]) -> Artists:
        return known.loc[rows, "artist"].to_numpy().astype(np.str_)

    fit, _ = split_rows(known, "clustering", experiment.protocol.calibration)
    clustering = {FIT: random_clustering(artists(known["row"].isin(fit)))}
    for split, role in HELD_OUT["clustering"].items():
        clustering[split] = random_clustering(artists(known["role"] == role.value))
    top_k = ProtocolSettings.of(experiment).top_k
    gallery = artists(known["role"] == Role.TRAIN.value)
    retrieval = {
        split: random_retrieval(gallery, artists(known["role"] == role.value), top_k)
        for split, role in HELD_OUT["retrieval"].items()
    }
    return {
        task: {split: scores for split, scores in splits.items() if scores}
        for task, splits in (("clustering", clustering), ("retrieval", retrieval))
    }


def _expected_term(a: int, b: int, n: int) -> float:
    """What an artist of a adapters and a cluster of b of n are expected to share."""
    both = np.arange(max(1, a + b - n), min(a, b) + 1)
    chance = np.exp(_log_binomial(b, both) + _log_binomial(n - b, a - both) - _log_binomial(n, a))
    return float((chance * (both / n) * np.log(n * both / (a * b))).sum())


def _log_binomial(n: int, k: int | NDArray[np.int64]) -> FloatArray:
    """Log of the binomial coefficient; minus infinity where k exceeds n."""
    k = np.asarray(k)
    inside = (k >= 0) & (k <= n)
    ways = (
        gammaln(n + 1)
        - gammaln(np.where(inside, k, 0) + 1)
        - gammaln(np.where(inside, n - k, 0) + 1)
    )
    return np.where(inside, ways, -np.inf)
