"""How long a search takes once the index is ready, and whether it finds what it should.

A contestant is made from the scores (n, k) and answers one query with positions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Search = Callable[[npt.NDArray[np.float32], int], npt.NDArray[np.integer]]
"""A query (k,) and top_k to positions, nearest first."""

N_QUERIES = 200
TOP_K = 24
STYLE_SHARE = 0.6
"""Of a component's variance, what lies between styles; they have 30 adapters each."""
STYLE_SIZE = 30


def measure(
    make: Callable[[Scores], Search], n_entries: int, n_components: int, seed: int = 0
) -> dict[str, Any]:
    """Start-up, latency and recall against brute force in float64; plain JSON."""
    scores, queries = entries(n_entries, n_components, seed)
    start = time.perf_counter()
    search = make(scores)
    start_up_s = time.perf_counter() - start
    search(queries[0], TOP_K)
    found, times = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(np.asarray(search(query, TOP_K)))
        times.append(1e3 * (time.perf_counter() - start))
    return {
        "entries": n_entries,
        "components": n_components,
        "queries": len(queries),
        "top_k": TOP_K,
        "start_up_s": start_up_s,
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.quantile(times, 0.95)),
        "recall": recall(scores, queries, found),
        "bytes_an_entry": scores.nbytes // n_entries,
    }


def entries(n: int, n_components: int, seed: int) -> tuple[Scores, Scores]:
    """Scores (n, k) of planted styles with a decaying spectrum, and queries of the same styles."""
    rng = np.random.default_rng(seed)
    n_styles = max(1, n // STYLE_SIZE)
    spread = np.arange(1, n_components + 1, dtype=np.float32) ** -0.35
    styles = rng.standard_normal((n_styles, n_components), np.float32)

    def drawn(count: int) -> Scores:
        own = rng.standard_normal((count, n_components), np.float32)
        own *= np.float32((1 - STYLE_SHARE) ** 0.5)
        own += np.float32(STYLE_SHARE**0.5) * styles[rng.integers(0, n_styles, count)]
        own *= spread
        return own

    return drawn(n), drawn(N_QUERIES)


def recall(scores: Scores, queries: Scores, found: Sequence[npt.NDArray[np.integer]]) -> float:
    """Of the nearest by brute force in float64, the share that was found."""
    hits = 0
    for query, positions in zip(queries, found, strict=True):
        distances = np.zeros(len(scores))
        for first in range(0, len(scores), 65_536):  # float64 copies of a part at a time
            part = slice(first, first + 65_536)
            distances[part] = np.square(scores[part].astype(np.float64) - query).sum(axis=1)
        nearest = np.argpartition(distances, len(positions) - 1)[: len(positions)]
        hits += len(np.intersect1d(nearest, positions))
    return hits / sum(map(len, found))
