"""Block Krylov PCA against the exact one, on a store that is large for its Gram matrix.

    python -m benchmarks.large_databases                     4,000 x 40,000 (640 MB)
    python -m benchmarks.large_databases --rows 8000 --columns 80000 --components 50 --json

Each runs in its own process from a cold cache. The store is made for the benchmark and
deleted after it. Errors are against the exact answer: float32 products, float64 sums.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from benchmarks.isolation import run_isolated
from benchmarks.pca.limits import drop_from_cache, shard_files
from benchmarks.synthetic import make_store
from lorastyle.embedding.gram_pass import gram_of
from lorastyle.embedding.krylov import krylov_spectrum
from lorastyle.embedding.spectrum import Spectrum
from lorastyle.progress import progress
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors

REPOSITORY = Path(__file__).resolve().parents[1]
METHODS = ("exact", "krylov")
RESULT_FILE = "result.npz"
N_ARTISTS = 40
SEED = 0
TIME_LIMIT_S, MEMORY_LIMIT_GIB = 3_600.0, 16.0

Result = dict[str, Any]


def main() -> None:
    options = _parse()
    if options.alone:
        run_alone(options)
        return
    document = compare(options)
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    print(render(document), file=sys.stderr if options.json else sys.stdout)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_databases",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=4_000, help="adapters n")
    parser.add_argument("--columns", type=int, default=40_000, help="parameters d")
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--oversamples", type=int, help="default: as many as components")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--memory-gib", type=float, default=1.0)
    parser.add_argument("--directory", type=Path, default=REPOSITORY / "runs", help="on a disk")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--alone", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Make the store, run both methods on it, judge the second by the first."""
    options.directory.mkdir(parents=True, exist_ok=True)
    path = options.directory / f"large-databases-{os.getpid()}.zarr"
    results: dict[str, Result] = {}
    try:
        _say(f"making {options.rows:,} x {options.columns:,} at {path}")
        store = make_store(path, options.rows, options.columns, n_artists=N_ARTISTS, seed=SEED)
        for method in METHODS:
            _say(f"running {method}")
            results[method] = _isolated(method, store, options)
    finally:
        shutil.rmtree(path, ignore_errors=True)
    settings = ("rows", "columns", "components", "tolerance", "memory_gib")
    return {
        "settings": {name: getattr(options, name) for name in settings},
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "exact": _plain(results["exact"]),
        "krylov": {**_plain(results["krylov"]), **_judged(results["krylov"], results["exact"])},
    }


def _isolated(method: str, store: AdapterStore, options: argparse.Namespace) -> Result:
    """What the method found, its time without imports, and its peak with all."""
    drop_from_cache(shard_files(store, options.rows))
    with TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.large_databases", "--alone", method]
        given = ["--store", str(Path(store.path).resolve()), "--out", out]
        for name in ("rows", "columns", "components", "oversamples", "tolerance", "memory_gib"):
            if getattr(options, name) is not None:
                given += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        outcome = run_isolated(
            [*command, *given],
            time_limit_s=TIME_LIMIT_S,
            memory_limit_gib=MEMORY_LIMIT_GIB,
            cwd=REPOSITORY,
        )
        if outcome.status != "finished":
            raise SystemExit(f"{method} {outcome.status}: {outcome.explanation}")
        with np.load(Path(out) / RESULT_FILE) as arrays:
            found: Result = {name: arrays[name] for name in arrays.files}
    return {**found, "peak_gb": outcome.peak_bytes / 1e9}


def run_alone(options: argparse.Namespace) -> None:
    """One method in this process; its result goes to a file."""
    store = AdapterStore.open(options.store)
    vectors = AdapterVectors.of(store, np.arange(options.rows))
    start = time.perf_counter()
    found = _exact(vectors, options) if options.alone == "exact" else _krylov(vectors, options)
    np.savez(options.out / RESULT_FILE, wall_s=time.perf_counter() - start, **found)


def _exact(vectors: AdapterVectors, options: argparse.Namespace) -> Mapping[str, npt.ArrayLike]:
    # Several n x n matrices, and something to work with: it would refuse to start with less.
    least = 40 * len(vectors) ** 2 / 2**30 + 0.1
    gram = gram_of(vectors, memory_gib=max(options.memory_gib, least))
    spectrum = Spectrum(options.components).fit(gram)
    ratio = spectrum.explained_variance_ratio_
    return {
        "variances": spectrum.explained_variance_,
        "ratios": ratio,
        "scores": spectrum.scores_,
        "n_passes": 1,
    }


def _krylov(vectors: AdapterVectors, options: argparse.Namespace) -> Mapping[str, npt.ArrayLike]:
    # Not to have converged is a result here: it stands in the table.
    with warnings.catch_warnings(), progress("krylov", 8, "passes") as shown:
        warnings.simplefilter("ignore")
        found = krylov_spectrum(
            vectors,
            options.components,
            n_oversamples=options.oversamples,
            tolerance=options.tolerance,
            memory_gib=options.memory_gib,
            shown=shown,
        )
    return {
        "variances": found.explained_variance_,
        "ratios": found.explained_variance_ratio_,
        "scores": found.scores_,
        "bounds": found.error_bounds_,
        "n_passes": found.n_passes_,
    }


def _plain(result: Result) -> dict[str, Any]:
    return {name: float(result[name]) for name in ("wall_s", "peak_gb", "n_passes")}


def _judged(found: Result, exact: Result) -> dict[str, Any]:
    """Errors of a result against the exact one, and what it said of them itself."""
    k = len(found["variances"])
    true = exact["variances"][:k]
    error = np.abs(found["variances"] - true)
    angles = scipy.linalg.subspace_angles(found["scores"], exact["scores"][:, :k])
    first = min(N_ARTISTS - 1, k)
    artists = scipy.linalg.subspace_angles(found["scores"][:, :first], exact["scores"][:, :first])
    return {
        "variance_error": float((error / true).max()),
        "stated_error": float((found["bounds"] / found["variances"]).max()),
        "bounds_hold": bool((error <= found["bounds"]).all()),
        "ratio_error": float(np.abs(found["ratios"] / exact["ratios"][:k] - 1).max()),
        "angle": float(angles.max()),
        "first": first,
        "angle_of_first": float(artists.max()),
    }


def render(document: dict[str, Any]) -> str:
    """The document as lines to read."""
    settings, krylov = document["settings"], document["krylov"]
    lines = [
        f"{settings['rows']:,} x {settings['columns']:,}, {settings['components']} components, "
        f"{document['cores']} cores, load {document['load_average']:.1f}",
        f"{'method':<8}{'passes':>8}{'time s':>9}{'peak GB':>9}",
    ]
    for method in METHODS:
        made = document[method]
        lines.append(
            f"{method:<8}{made['n_passes']:>8.0f}{made['wall_s']:>9.1f}{made['peak_gb']:>9.2f}"
        )
    lines += [
        f"worst relative error of a variance: {krylov['variance_error']:.1e}, stated "
        f"{krylov['stated_error']:.1e}; every bound holds: {krylov['bounds_hold']}",
        f"largest angle to the exact space: {krylov['angle']:.1e} rad for all components, "
        f"{krylov['angle_of_first']:.1e} rad for the first {krylov['first']}",
    ]
    return "\n".join(lines)


def _say(what: str) -> None:
    print(f"large_databases: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
