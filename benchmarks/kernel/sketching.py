"""The sketch beside the exact kernel: bytes, time, error and speed-up."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.kernel.adapters import mixed, modules, random_adapter
from lorastyle.adapters.products import cross_products
from lorastyle.adapters.sketch import SketchPlan, SketchSet
from lorastyle.adapters.updates import Adapter

COSINES = (0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LEAST_COSINE = 0.3
"""Relative errors are of cosines from here on."""
SEEDS = (0, 1)
FITTED_TO = 32
"""Adapters, at most, that sizes are chosen after."""
N_COMPARED = 1_024
"""Sketches whose products are timed."""
N_BASES = 12
"""Adapters, at most, that others are planted about."""


def synthetic(rank: int, every: int, n: int = 8) -> list[Adapter]:
    """Half with a `lora_A` of their own, half with one in common. A mixture of two has `rank`."""
    targets = modules(every)
    shared = [None] * (n // 2) + [0] * (n - n // 2)
    return [random_adapter(targets, rank // 2, 100 + i, of) for i, of in enumerate(shared)]


def measure(
    adapters: Sequence[Adapter], sizes: Sequence[int], exact_pairs_per_s: float | None
) -> list[dict[str, Any]]:
    """A record for each size, plain JSON: pairs with planted cosines, and pairs as they are."""
    bases, partners, exact = _planted(adapters)
    among = cross_products(adapters).cosine()
    above = np.triu(among >= LEAST_COSINE, 1)
    records = []
    for size in sizes:
        errors: dict[str, list[np.ndarray]] = {"planted": [], "as they are": []}
        for seed in SEEDS:
            plan = SketchPlan.fitted(adapters[:FITTED_TO], size, seed)
            estimates = _estimates(plan, bases, partners)
            errors["planted"].append(_relative(estimates, exact, exact >= LEAST_COSINE))
            estimates = plan.sketch_all(adapters).cosine()
            errors["as they are"].append(_relative(estimates, among, above))
        rate = _pairs_per_s(plan)
        records.append(
            {
                "size": size,
                "numbers": plan.n_numbers,
                "bytes": plan.n_bytes,
                "ms_an_adapter": 1e3 * _sketch_s(plan, partners[0][-1]),
                "errors": {
                    which: _summary(np.concatenate(found))
                    for which, found in errors.items()
                    if sum(map(len, found))
                },
                "pairs_per_s": rate,
                "speed_up": None if exact_pairs_per_s is None else rate / exact_pairs_per_s,
            }
        )
    return records


def _planted(
    adapters: Sequence[Adapter],
) -> tuple[list[Adapter], list[list[Adapter]], np.ndarray]:
    """Some adapters, those planted about each, and their exact cosines (bases, cosines)."""
    step = max(1, len(adapters) // N_BASES)
    bases = list(adapters[::step][:N_BASES])
    others = [*bases[1:], bases[0]]
    partners = [
        [mixed(base, other, cosine) for cosine in COSINES]
        for base, other in zip(bases, others, strict=True)
    ]
    exact = [
        cross_products([base], planted).cosine()[0]
        for base, planted in zip(bases, partners, strict=True)
    ]
    return bases, partners, np.array(exact)


def _estimates(
    plan: SketchPlan, bases: Sequence[Adapter], partners: Sequence[Sequence[Adapter]]
) -> np.ndarray:
    return np.array(
        [
            plan.sketch_all([base]).cosine(plan.sketch_all(planted))[0]
            for base, planted in zip(bases, partners, strict=True)
        ]
    )


def _relative(estimates: np.ndarray, exact: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(pairs, 2): exact cosines and relative errors."""
    cosines = exact[chosen]
    return np.stack([cosines, (estimates[chosen] - cosines) / cosines], axis=1)


def _summary(found: np.ndarray) -> dict[str, Any]:
    """Over all pairs, and over the weakest, where relative errors are largest."""
    weak = found[found[:, 0] < LEAST_COSINE + 0.1]
    return {
        "pairs": len(found),
        "rms": _rms(found[:, 1]),
        "p95": float(np.quantile(np.abs(found[:, 1]), 0.95)),
        "weak_pairs": len(weak),
        "weak_rms": _rms(weak[:, 1]) if len(weak) else None,
        "weak_p95": float(np.quantile(np.abs(weak[:, 1]), 0.95)) if len(weak) else None,
    }


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _sketch_s(plan: SketchPlan, adapter: Adapter) -> float:
    """Of one adapter on one core; the plan's hash functions are there already."""
    with threadpool_limits(1):
        return min(_timed(plan.sketch, adapter) for _ in range(3))


def _pairs_per_s(plan: SketchPlan) -> float:
    """Cosines a second, n x n, of sketches in memory; one BLAS thread a core."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((N_COMPARED, plan.n_numbers), np.float32)
    sketches = SketchSet(plan, values, np.ones((N_COMPARED, len(plan.modules)), bool))
    with threadpool_limits(os.cpu_count() or 1):
        return N_COMPARED**2 / min(_timed(sketches.cosine) for _ in range(3))


def _timed(call: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start
