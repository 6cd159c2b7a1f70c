"""How long a whole search takes: a file's factors in memory, to the names of its neighbours.

The query is sketched, placed in a style space by its sketch, and ranked among all entries. The
space is fitted on adapters of Stable Diffusion's shapes whose sketches are drawn at random
around planted styles: times do not depend on what the numbers are.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.kernel.adapters import modules, random_adapter
from benchmarks.kernel.search_latency import STYLE_SHARE, STYLE_SIZE, TOP_K
from lorastyle.adapters.sketch import DEFAULT_NUMBERS, SketchPlan, SketchSet
from lorastyle.adapters.updates import ModuleKey
from lorastyle.embedding.calibration import Calibration
from lorastyle.embedding.spectrum import Spectrum
from lorastyle.embedding.style_space import StyleSpace
from lorastyle.search.index import StyleIndex
from lorastyle.search.sketches import SketchPlacer

MOST_FITTED = 2_709
"""A space is fitted on this many adapters at most; the others are placed in it."""
N_QUERIES = 20


def measure(
    n_entries: int, n_components: int, rank: int, every: int, seed: int = 0
) -> dict[str, Any]:
    """Start-up and latency of whole searches; plain JSON."""
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    placer = fitted_placer(min(n_entries, MOST_FITTED), n_components, every, rng)
    queries = [random_adapter(modules(every), rank, number) for number in range(N_QUERIES)]
    made_s = time.perf_counter() - start
    start = time.perf_counter()
    index = StyleIndex(scores_like(placer, n_entries, rng))
    _search(placer, index, queries[0])
    start_up_s = time.perf_counter() - start
    times, placing = [], []
    for query in queries:
        start = time.perf_counter()
        scores, _ = placer.place(query)
        placing.append(1e3 * (time.perf_counter() - start))
        index.nearest(scores, TOP_K)
        times.append(1e3 * (time.perf_counter() - start))
    return {
        "entries": n_entries,
        "components": placer.space.n_components,
        "rank": rank,
        "queries": N_QUERIES,
        "made_s": made_s,
        "start_up_s": start_up_s,
        "placing_median_ms": float(np.median(placing)),
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.quantile(times, 0.95)),
    }


def _search(placer: SketchPlacer, index: StyleIndex, query: Any) -> None:
    scores, _ = placer.place(query)
    index.nearest(scores, TOP_K)


def scores_like(placer: SketchPlacer, n: int, rng: np.random.Generator) -> Any:
    """Of the fitted adapters, again and again with a little noise."""
    fitted = placer.space.pca.scores_.astype(np.float32)
    scores = fitted[rng.integers(0, len(fitted), n)]
    scores += 0.01 * rng.standard_normal(scores.shape, np.float32)
    return scores


def fitted_placer(n: int, n_components: int, every: int, rng: np.random.Generator) -> SketchPlacer:
    shapes = {
        ModuleKey("unet", one.name): (one.out_features, one.in_features) for one in modules(every)
    }
    shares = {key: float(shape[0] * shape[1]) for key, shape in shapes.items()}
    plan = SketchPlan.of_shares(shapes, shares, DEFAULT_NUMBERS)
    styles = rng.standard_normal((-(-n // STYLE_SIZE), plan.n_numbers), np.float32)
    values = rng.standard_normal((n, plan.n_numbers), np.float32)
    values *= np.float32((1 - STYLE_SHARE) ** 0.5)
    for row in range(n):
        values[row] += np.float32(STYLE_SHARE**0.5) * styles[row // STYLE_SIZE]
    sketches = SketchSet(plan, values, np.ones((n, len(plan.modules)), bool))
    pca = Spectrum(n_components).fit(sketches.cosine())
    rows = np.arange(n)
    table = pd.DataFrame({"row": rows, "artist": "x", "role": "train"})
    calibration = Calibration.identity(pca.n_components_)
    space = StyleSpace(
        "retrieval", "delta", "full", table, rows, rows[:0], pca, calibration, pca.scores_
    )
    return SketchPlacer(space, sketches)
