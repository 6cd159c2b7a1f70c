"""Measure products of adapter updates: the exact kernel, its sketch, and search.

    python -m benchmarks.kernel                       Stable Diffusion 1.5's shapes at rank 16
    python -m benchmarks.kernel --json                the same as one document
    python -m benchmarks.kernel --quick               a few small modules: does it run at all
    python -m benchmarks.kernel --adapters PATH       the sketch's error on a store or folder too

The kernel runs in a process of its own. Its share of GEMM is its rate over that of plain
float32 products with as many threads, measured before and after it. Sketches are
compared with the exact kernel; search with brute force in float64.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.kernel import exact, placing, search_latency, sketching
from benchmarks.kernel.adapters import adapters_at
from benchmarks.kernel.table import render
from benchmarks.pca import machine
from lorastyle.errors import LorastyleError
from lorastyle.search.index import StyleIndex

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES = (2**12, 2**13, 2**14, 2**15, 2**16)
USUAL: dict[str, Any] = {
    "n": 128,
    "every": 1,
    "gemm_s": 0.5,
    "sizes": SIZES,
    "entries": (2_709, 1_000_000),
}
QUICK: dict[str, Any] = {
    "n": 6,
    "every": 16,
    "gemm_s": 0.02,
    "sizes": (2**13,),
    "entries": (300,),
}
N_COMPONENTS = 64


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    try:
        document = _measure(options)
    except (LorastyleError, ValueError) as error:
        raise SystemExit(f"benchmarks.kernel: {error}") from error
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    print(render(document), file=sys.stderr if options.json else sys.stdout)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernel",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--n", type=int, help="adapters of the exact kernel; 128 (3.1 GB)")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--adapters", type=Path, action="append", default=[], metavar="PATH")
    parser.add_argument("--time-limit-s", type=float, default=3_600.0, help="for the kernel")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    options = parser.parse_args(arguments)
    if options.rank < 1:
        parser.error(f"--rank {options.rank} is no rank; choose 1 or more")
    if options.n is not None and options.n < 2:
        parser.error(f"--n {options.n} has no pairs; choose 2 or more")
    for name, value in (QUICK if options.quick else USUAL).items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    return options


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    # First, so that a wrong path is told at once.
    named = {str(path): adapters_at(path) for path in options.adapters}
    _say(f"exact kernel, {options.n} x {options.n}")
    kernel = exact.measure_isolated(
        options.n,
        options.rank,
        options.every,
        options.gemm_s,
        repository=REPOSITORY,
        time_limit_s=options.time_limit_s,
    )
    _say("sketch of synthetic adapters")
    made = sketching.synthetic(options.rank, options.every)
    sketches = {"synthetic": sketching.measure(made, options.sizes, kernel["pairs_per_s"])}
    for path, adapters in named.items():
        _say(f"sketch of adapters at {path}")
        # The exact kernel was timed on other shapes: no speed-up there.
        sketches[path] = sketching.measure(adapters, options.sizes, None)
    searches = []
    for n_entries in options.entries:
        _say(f"search among {n_entries:,}")
        found = search_latency.measure(_style_index, n_entries, N_COMPONENTS)
        searches.append({"name": "StyleIndex", **found})
    _say("whole searches")
    whole = [
        placing.measure(n_entries, N_COMPONENTS, options.rank, options.every)
        for n_entries in options.entries
    ]
    return {
        "machine": machine.describe(REPOSITORY),
        "exact": kernel,
        "sketch": sketches,
        "search": searches,
        "whole_search": whole,
    }


def _style_index(scores: search_latency.Scores) -> search_latency.Search:
    index = StyleIndex(scores)
    return lambda query, top_k: index.nearest(query, top_k).positions


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
