"""Compare PCA methods on one store on disk, each in its own process with limits.

    python -m benchmarks.pca                      400 x 1,000,000, ours and all peers
    python -m benchmarks.pca --paper-scale        1,512 x 5,984,256 (36 GB), ours alone
    python -m benchmarks.pca --only ours,sklearn-full --rows 200 --columns 100000 --json

The limit is what the machine would need to read the store once, or to multiply it
once, whichever takes longer. Errors are against float64.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.pca import machine
from benchmarks.pca.accuracy import exact_spectra
from benchmarks.pca.contestants import CONTESTANTS
from benchmarks.pca.limits import measure
from benchmarks.pca.table import render
from benchmarks.pca.trial import Conditions, try_out
from benchmarks.synthetic import PAPER_COLUMNS, make_store
from lorastyle.errors import LorastyleError
from lorastyle.store.adapter_store import AdapterStore

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONAL = ("sklearn-arpack",)
"""Run only when asked for by name."""
USUAL: dict[str, Any] = {
    "rows": 400,
    "columns": 1_000_000,
    "artists": 25,
    "only": [name for name in CONTESTANTS if name not in OPTIONAL],
    "time_limit_s": 400.0,
    "memory_gib": 0.5,
}
PAPER: dict[str, Any] = {
    "rows": 1_512,
    "columns": PAPER_COLUMNS,
    "artists": 63,
    "only": ["ours"],
    "time_limit_s": 3_600.0,
    "memory_gib": 2.0,
}
SPARE = 1.05
"""Disk asked for, in units of the weights: records, and a file system that is not filled."""
SEED = 0


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    try:
        with _store(options) as store:
            document = _compare(store, options)
    except (LorastyleError, ValueError) as error:
        raise SystemExit(f"benchmarks.pca: {error}") from error
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    print(render(document), file=sys.stderr if options.json else sys.stdout)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pca",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, help="adapters n")
    parser.add_argument("--columns", type=int, help="parameters d, a multiple of 16")
    parser.add_argument("--artists", type=int, help="planted among the rows")
    parser.add_argument("--components", type=int, default=100)
    parser.add_argument("--only", type=_names, help=f"some of {', '.join(CONTESTANTS)}")
    parser.add_argument("--time-limit-s", type=float, help="for each, with imports")
    parser.add_argument("--memory-limit-gib", type=float, default=16.0, help="for each")
    parser.add_argument("--memory-gib", type=float, help="working memory of ours: 0.5, or 2")
    parser.add_argument("--store", type=Path, help="where it is, or is to be made; on a disk")
    parser.add_argument("--keep", action="store_true", help="do not delete the store made")
    parser.add_argument("--paper-scale", action="store_true", help="1,512 x 5,984,256: 36 GB")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    options = parser.parse_args(arguments)
    for name, value in (PAPER if options.paper_scale else USUAL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in CONTESTANTS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"there is no method {unknown[0]!r}; choose from {', '.join(CONTESTANTS)}"
        )
    return names


@contextmanager
def _store(options: argparse.Namespace) -> Iterator[AdapterStore]:
    """The store at `--store`, or one made for this run and deleted after it, come what may."""
    path = options.store or REPOSITORY / "runs" / f"pca-benchmark-{os.getpid()}.zarr"
    if path.exists():
        yield _checked(AdapterStore.open(path), options)
        return
    _check_disk(path, options)
    try:
        _say(f"making {options.rows:,} x {options.columns:,} at {path}")
        start = time.perf_counter()
        store = make_store(
            path, options.rows, options.columns, n_artists=options.artists, seed=SEED
        )
        _say(f"made in {time.perf_counter() - start:.0f} s")
        yield store
    finally:
        if not options.keep:
            shutil.rmtree(path, ignore_errors=True)


def _checked(store: AdapterStore, options: argparse.Namespace) -> AdapterStore:
    n_rows = len(store.rows())
    if n_rows < options.rows or store.size != options.columns:
        raise ValueError(
            f"{store.path} holds {n_rows:,} x {store.size:,}, not {options.rows:,} x "
            f"{options.columns:,}; say so with --rows and --columns, or name another --store"
        )
    return store


def _check_disk(path: Path, options: argparse.Namespace) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = SPARE * 4 * options.rows * options.columns
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise ValueError(
            f"the store needs {needed / 1e9:,.1f} GB, {path.parent} has {free / 1e9:,.1f} GB free; "
            "make room or name a place on another disk with --store"
        )


def _compare(store: AdapterStore, options: argparse.Namespace) -> dict[str, Any]:
    """The whole comparison as one plain document."""
    settings = _settings(store, options)
    _say("measuring the read and product rates")
    limits = measure(store, options.rows)
    _say("computing the reference in float64")
    exact = exact_spectra(store, options.rows, options.components)
    conditions = Conditions(
        REPOSITORY,
        store,
        options.rows,
        options.components,
        options.memory_gib,
        options.time_limit_s,
        options.memory_limit_gib,
    )
    results = []
    for name in options.only:
        _say(f"running {name}")
        results.append(try_out(name, conditions, exact, settings["angles_at"]))
    return {
        "settings": settings,
        "machine": machine.describe(REPOSITORY),
        "limits": limits.to_dict(),
        "results": _with_ratios(results, limits.limit_s),
    }


def _settings(store: AdapterStore, options: argparse.Namespace) -> dict[str, Any]:
    n_artists = store.table()["artist"][: options.rows].nunique()
    at = {min(k, options.components) for k in (n_artists - 1, options.components)}
    return {
        "rows": options.rows,
        "columns": options.columns,
        "artists": n_artists,
        "components": options.components,
        "angles_at": sorted(at),
        "memory_gib": options.memory_gib,
        "time_limit_s": options.time_limit_s,
        "memory_limit_gib": options.memory_limit_gib,
    }


def _with_ratios(results: list[dict[str, Any]], limit_s: float) -> list[dict[str, Any]]:
    """Add `to_limit` and `to_ours`: how many times longer; None where it did not finish."""
    times = {result["name"]: result["wall_s"] for result in results}
    ours = times.get("ours")
    for result in results:
        wall_s = result["wall_s"]
        result["to_limit"] = None if wall_s is None else wall_s / limit_s
        result["to_ours"] = None if wall_s is None or ours is None else wall_s / ours
    return results


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # A stopped benchmark leaves no 36 GB behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
