"""What the machine can do at best: the raw read rate and the symmetric product rate."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from lorastyle.store.adapter_store import AdapterStore

READ_THREADS = (1, 2, 4)
READ_BUFFER = 2**22
PRODUCT_WIDTHS = (8_192, 32_768)
"""Columns of the products that are timed: the faster width counts."""
PRODUCT_S = 1.0
"""Each way of multiplying is timed for at least this long."""
REREAD_BYTES = 4 * 2**30
"""Larger stores are not read once for every number of threads, but a share of the rows for each."""


@dataclass(frozen=True)
class Limits:
    """The least time that reading once, or multiplying once, would take."""

    read_mb_per_s: dict[int, float]
    """By threads, whole files one after another, with a cold cache."""
    product_gflop_per_s: dict[str, float]
    """Of X @ X.T in float32, counted as 2 n^2 d although a symmetric product needs half."""
    read_s: float
    product_s: float

    @property
    def limit_s(self) -> float:
        """Reading and multiplying at the same time, neither waiting."""
        return max(self.read_s, self.product_s)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "limit_s": self.limit_s}


def measure(store: AdapterStore, n_rows: int) -> Limits:
    """Both rates for `n_rows` rows of this store, and from them the limit."""
    reads = read_rates(shard_files(store, n_rows))
    products = product_rates(n_rows, store.size)
    return Limits(
        {threads: rate / 1e6 for threads, rate in reads.items()},
        {how: rate / 1e9 for how, rate in products.items()},
        read_s=4 * n_rows * store.size / max(reads.values()),
        product_s=2 * n_rows**2 * store.size / max(products.values()),
    )


def shard_files(store: AdapterStore, n_rows: int) -> list[Path]:
    """The file of each of the first rows."""
    return [Path(store.path) / "weights" / "c" / str(row) / "0" for row in range(n_rows)]


def drop_from_cache(files: Sequence[Path]) -> None:
    """Have the next reads come from the disk; needs no rights. Does nothing but on Linux."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in files:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)  # what is not yet written cannot be dropped
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def read_rates(files: Sequence[Path]) -> dict[int, float]:
    """Bytes a second by number of threads."""
    size = sum(path.stat().st_size for path in files)
    parts = [files] * 3 if size <= REREAD_BYTES else [files[i::3] for i in range(3)]
    return {
        threads: _read_rate(part, threads)
        for threads, part in zip(READ_THREADS, parts, strict=True)
    }


def _read_rate(files: Sequence[Path], n_threads: int) -> float:
    drop_from_cache(files)
    start = time.perf_counter()
    with ThreadPoolExecutor(n_threads) as pool:
        n_bytes = sum(pool.map(_read_whole, files))
    return n_bytes / (time.perf_counter() - start)


def _read_whole(path: Path) -> int:
    buffer = bytearray(READ_BUFFER)
    total = 0
    with path.open("rb", buffering=0) as file:
        while n_bytes := file.readinto(buffer):
            total += n_bytes
    return total


def product_rates(n_rows: int, n_columns: int) -> dict[str, float]:
    """Operations a second, 2 n^2 w for a product of (n, w): one thread a core, and BLAS's own."""
    n_cores = os.cpu_count() or 1
    widths = {min(width, n_columns) for width in PRODUCT_WIDTHS}
    return {
        "one_thread_a_core": max(_product_rate(n_rows, w, n_cores, 1) for w in widths),
        "blas_threads": max(_product_rate(n_rows, w, 1, n_cores) for w in widths),
    }


def _product_rate(n_rows: int, width: int, n_workers: int, blas_threads: int) -> float:
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((n_rows, width), np.float32) for _ in range(n_workers)]
    # Between 1 and 2 s of work: as many products as the first, untimed for warmth, promises.
    with threadpool_limits(blas_threads), ThreadPoolExecutor(n_workers) as pool:
        list(pool.map(_multiply, blocks, [1] * n_workers))
        once = max(pool.map(_multiply, blocks, [1] * n_workers))
        repeats = max(1, int(PRODUCT_S / once) + 1)
        start = time.perf_counter()
        list(pool.map(_multiply, blocks, [repeats] * n_workers))
        wall_s = time.perf_counter() - start
    return 2 * n_rows**2 * width * n_workers * repeats / wall_s


def _multiply(block: np.ndarray, repeats: int) -> float:
    out = np.empty((len(block), len(block)), np.float32)
    start = time.perf_counter()
    for _ in range(repeats):
        # One operand twice: NumPy calls syrk.
        np.matmul(block, block.T, out=out)
    return time.perf_counter() - start
