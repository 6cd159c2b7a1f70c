"""The sketch beside the exact kernel: bytes, time, error and speed-up."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
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
    """Half with a `lora_A` of their own, half with one in common."""
    targets = modules(every)
    shared = [None] * (n // 2) + [0] * (n - n // 2)
    return [random_adapter(targets, rank, 100 + i, of) for i, of in enumerate(shared)]


def measure(
    adapters: Sequence[Adapter], sizes: Sequence[int], exact_pairs_per_s: float | None
) -> list[dict[str, Any]]:
    """A record for each size, plain JSON: pairs with planted cosines, and pairs as they are."""
    plans = {
        size: [SketchPlan.fitted(adapters[:FITTED_TO], size, seed) for seed in SEEDS]
        for size in sizes
    }
    planted = _planted_errors(adapters, plans)
    among = cross_products(adapters).cosine()
    chosen = np.triu(among >= LEAST_COSINE, 1)
    records = []
    for size, (plan, *_) in plans.items():
        estimates = [each.sketch_all(adapters).cosine() for each in plans[size]]
        errors = {
            "planted": np.concatenate(planted[size]),
            "as they are": np.concatenate([_relative(one, among, chosen) for one in estimates]),
        }
        rate = _pairs_per_s(plan)
        records.append(
            {
                "size": size,
                "numbers": plan.n_numbers,
                "bytes": plan.n_bytes,
                "ms_an_adapter": 1e3 * _sketch_s(plan, adapters[0]),
                "rank": max(one.rank for one in adapters[0].updates.values()),
                "errors": {which: _summary(one) for which, one in errors.items() if len(one)},
                "pairs_per_s": rate,
                "speed_up": None if exact_pairs_per_s is None else rate / exact_pairs_per_s,
            }
        )
    return records


def _planted_errors(
    adapters: Sequence[Adapter], plans: Mapping[int, Sequence[SketchPlan]]
) -> dict[int, list[np.ndarray]]:
    """Errors for each size, of adapters planted about some; those of one are held at a time."""
    step = max(1, len(adapters) // N_BASES)
    bases = list(adapters[::step][:N_BASES])
    errors: dict[int, list[np.ndarray]] = {size: [] for size in plans}
    for base, other in zip(bases, [*bases[1:], bases[0]], strict=True):
        planted = [mixed(base, other, cosine) for cosine in COSINES]
        exact = cross_products([base], planted).cosine()
        for size, of_size in plans.items():
            for plan in of_size:
                estimates = plan.sketch_all([base]).cosine(plan.sketch_all(planted))
                errors[size].append(_relative(estimates, exact, exact >= LEAST_COSINE))
    return errors


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
        return min(_timed(plan.sketch, adapter) for _ in range(5))


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
