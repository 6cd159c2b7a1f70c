"""The exact kernel, n x n, in a process of its own: its rate, its memory, its error.

python -m benchmarks.kernel.exact OUT.json --adapters 64 --rank 16
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from benchmarks.isolation import run_isolated
from benchmarks.kernel.adapters import modules, random_adapter
from lorastyle.adapters.pairs import compare_pair
from lorastyle.adapters.products import cross_products
from lorastyle.adapters.updates import Adapter

DATABASE = 1_890
"""Adapters of the paper."""
GEMM_SHAPES = ((512, 512, 1_280), (512, 512, 320), (2_048, 2_048, 2_048))
"""(m, n, k) of the products that are timed, a tile's among them: the fastest counts."""
CHECKED_PAIRS = 12


def measure_isolated(
    n: int, rank: int, every: int, gemm_s: float, *, repository: Path, time_limit_s: float
) -> dict[str, Any]:
    """`measure` in a process of its own, with its peak memory."""
    with TemporaryDirectory() as directory:
        out = Path(directory) / "exact.json"
        flags = ["--adapters", str(n), "--rank", str(rank), "--every", str(every)]
        flags += ["--gemm-s", str(gemm_s)]
        outcome = run_isolated(
            [sys.executable, "-m", "benchmarks.kernel.exact", str(out), *flags],
            time_limit_s=time_limit_s,
            memory_limit_gib=64,
            cwd=repository,
        )
        if outcome.status != "finished":
            raise ValueError(f"the exact kernel {outcome.status}: {outcome.explanation}")
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {**found, "process_peak_gb": outcome.peak_bytes / 1e9}


def measure(n: int, rank: int, every: int, gemm_s: float, n_workers: int) -> dict[str, Any]:
    """Everything about n x n products of random adapters; plain JSON."""
    targets = modules(every)
    adapters = [random_adapter(targets, rank, seed) for seed in range(n)]
    cross_products(adapters[:2], n_workers=n_workers)  # threads and libraries, once
    rates = [gemm_rate(n_workers, gemm_s)]
    before = psutil.Process().memory_info().rss
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    crossed = cross_products(adapters, memory_bytes=2**40, n_workers=n_workers)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    # Above what was resident before; an upper bound, should making the adapters have peaked.
    working = _peak_bytes() - before
    rates.append(gemm_rate(n_workers, gemm_s))
    gemm, gemm_cpu = (max(rate[which] for rate in rates) for which in (0, 1))
    n_pairs = n * (n + 1) // 2
    n_parameters = adapters[0].n_parameters
    # Of A_i A_j' and B_i' B_j: 2 r^2 (in + out) a module, which is 2 r parameters.
    flops = 2 * rank * n_parameters * n_pairs
    return {
        "adapters": n,
        "rank": rank,
        "modules": len(targets),
        "parameters": n_parameters,
        "workers": n_workers,
        "wall_s": wall_s,
        "pairs_per_s": n_pairs / wall_s,
        "gflop_per_s": flops / wall_s / 1e9,
        "gemm_gflop_per_s": gemm / 1e9,
        "share_of_gemm": flops / wall_s / gemm,
        "cpu_share_of_gemm": flops / cpu_s / gemm_cpu,
        "adapters_gb": 4e-9 * n_parameters * n,
        "working_gb": working / 1e9,
        "database": DATABASE,
        "database_s": DATABASE * (DATABASE + 1) / 2 / n_pairs * wall_s,
        "error": _error(adapters, crossed.inner()),
    }


def gemm_rate(n_workers: int, gemm_s: float) -> tuple[float, float]:
    """Operations of general float32 products, a second and a CPU second.

    One BLAS thread for each worker; the best of several shapes, each timed for `gemm_s`
    at least.
    """
    with threadpool_limits(1), ThreadPoolExecutor(n_workers) as pool:
        rates = [_rates(shape, n_workers, gemm_s, pool) for shape in GEMM_SHAPES]
    return max(wall for wall, _ in rates), max(cpu for _, cpu in rates)


def _rates(
    shape: tuple[int, int, int], n_workers: int, gemm_s: float, pool: ThreadPoolExecutor
) -> tuple[float, float]:
    m, n, k = shape
    rng = np.random.default_rng(0)
    pairs = [
        (rng.standard_normal((m, k), np.float32), rng.standard_normal((n, k), np.float32))
        for _ in range(n_workers)
    ]
    list(pool.map(_multiply, pairs, [1] * n_workers))
    once = max(pool.map(_multiply, pairs, [1] * n_workers))
    repeats = int(gemm_s / once) + 1
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    list(pool.map(_multiply, pairs, [repeats] * n_workers))
    flops = 2 * m * n * k * n_workers * repeats
    return flops / (time.perf_counter() - wall_s), flops / (time.process_time() - cpu_s)


def _multiply(pair: tuple[np.ndarray, np.ndarray], repeats: int) -> float:
    left, right = pair
    out = np.empty((len(left), len(right)), np.float32)
    start = time.perf_counter()
    for _ in range(repeats):
        np.matmul(left, right.T, out=out)
    return time.perf_counter() - start


def _error(adapters: Sequence[Adapter], gram: np.ndarray) -> float:
    """The worst of some inner products against float64, in units of the two norms."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for i, j in rng.integers(0, len(adapters), (CHECKED_PAIRS, 2)):
        whole = compare_pair(adapters[i], adapters[j]).whole
        worst = max(worst, abs(gram[i, j] - whole.inner) / (whole.norm_a * whole.norm_b))
    return float(worst)


def _peak_bytes() -> int:
    """The high-water mark of this process's memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel.exact")
    parser.add_argument("out", type=Path)
    parser.add_argument("--adapters", type=int, default=64)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--every", type=int, default=1, help="every so-manieth module alone")
    parser.add_argument("--gemm-s", type=float, default=0.5)
    options = parser.parse_args()
    n_workers = os.cpu_count() or 1
    found = measure(options.adapters, options.rank, options.every, options.gemm_s, n_workers)
    options.out.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")


if __name__ == "__main__":
    main()
