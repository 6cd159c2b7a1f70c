"""One contestant alone: a cold cache, its own process, limits, and what it found."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.isolation import run_isolated
from benchmarks.pca.accuracy import Spectra, errors
from benchmarks.pca.limits import drop_from_cache, shard_files
from lorastyle.store.adapter_store import AdapterStore

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Conditions:
    """What is the same for all contestants."""

    repository: Path
    store: AdapterStore
    n_rows: int
    n_components: int
    memory_gib: float
    """Working memory of our Gram pass."""
    time_limit_s: float
    memory_limit_gib: float


def try_out(name: str, conditions: Conditions, exact: Spectra, ks: Sequence[int]) -> dict[str, Any]:
    """Run a contestant and judge it against the exact spectra; a plain record.

    `wall_s` is from the first read to the scores, without imports, None where it did
    not finish; `peak_gb` counts everything resident, imports too.
    """
    result: dict[str, Any] = {"name": name, "wall_s": None, "peak_gb": None}
    result |= {"parts_s": {}, "accuracy": {}}
    if name.startswith("dask-ml") and find_spec("dask_ml") is None:
        missing = "dask-ml is not installed; install the extra `bench`"
        return {**result, "status": "absent", "explanation": missing}
    with TemporaryDirectory() as directory:
        found, times = _run(name, conditions, Path(directory), result)
    if times is None:
        return result
    if not all(np.isfinite(part).all() for pair in found.values() for part in pair):
        return {**result, "status": "failed", "explanation": "gave values that are not finite"}
    return {**result, **times, "accuracy": errors(found, exact, ks)}


def _run(
    name: str, conditions: Conditions, out: Path, result: dict[str, Any]
) -> tuple[Spectra, dict[str, Any] | None]:
    """Spectra and times, none where it met a limit; fills in how it ended and its peak."""
    numbers = {
        "--rows": conditions.n_rows,
        "--components": conditions.n_components,
        "--memory-gib": conditions.memory_gib,
    }
    flags = [str(part) for pair in numbers.items() for part in pair]
    path = str(Path(conditions.store.path).resolve())
    drop_from_cache(shard_files(conditions.store, conditions.n_rows))
    outcome = run_isolated(
        [sys.executable, "-m", "benchmarks.pca.contestants", name, path, str(out), *flags],
        time_limit_s=conditions.time_limit_s,
        memory_limit_gib=conditions.memory_limit_gib,
        # Every core for everyone, whatever the calling shell allows itself.
        environment=dict.fromkeys(THREAD_SETTINGS, str(os.cpu_count() or 1)),
        cwd=conditions.repository,
    )
    result["status"], result["explanation"] = outcome.status, outcome.explanation
    result["peak_gb"], result["process_s"] = outcome.peak_bytes / 1e9, outcome.wall_s
    if outcome.status != "finished":
        return {}, None
    with np.load(out / "spectra.npz") as arrays:
        names = {key.split("/")[0] for key in arrays.files}
        found = {
            each: (arrays[f"{each}/variances"], arrays[f"{each}/scores"]) for each in sorted(names)
        }
    return found, json.loads((out / "times.json").read_text(encoding="utf-8"))
