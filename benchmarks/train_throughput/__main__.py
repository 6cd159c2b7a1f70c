"""Measure how fast adapters are trained: stacks of them beside a lean loop of PEFT.

    python -m benchmarks.train_throughput                 the shipped miniature on all cores
    python -m benchmarks.train_throughput --device cuda   Stable Diffusion 1.5's shapes on a GPU
    python -m benchmarks.train_throughput --json          the same as one document
    python -m benchmarks.train_throughput --quick         under a minute: does it run at all

Needs torch, diffusers, peft, accelerate and what they bring; nothing is downloaded. The table
goes to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.train_throughput.contestants import FULL
from benchmarks.train_throughput.machine import n_cores

QUICK: dict[str, Any] = {"stacks": (1, 4), "batch": (1,), "seconds": 0.3, "compile": False}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    from benchmarks.train_throughput.processes import Failure
    from benchmarks.train_throughput.session import hold
    from benchmarks.train_throughput.table import render

    try:
        document = hold(options, lambda line: print(line, file=sys.stderr, flush=True))
    except Failure as failure:
        raise SystemExit(f"benchmarks.train_throughput: {failure}") from failure
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    print(render(document), file=sys.stderr if options.json else sys.stdout)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--unet", choices=("miniature", "sd15"), help="default: by device, as above")
    add("--rank", type=_positive, help="default: 4 of the miniature, 16 of sd15")
    add("--stacks", type=_several, help=f"adapters together, as 1,4,16; up to {FULL} on a CPU")
    add("--batch", type=_several, help="samples of an adapter in a step: the paper's 1, then 4")
    add("--seconds", type=_seconds, help="that a window lasts; 2")
    add("--rounds", type=_positive, default=3)
    add("--processes", type=_several, help="sharing the cores; 1, and on a CPU one a core")
    add("--compile", action=argparse.BooleanOptionalAction, help="rows of torch.compile; on CUDA")
    add("--time-limit-s", type=_seconds, default=570.0, help="what is late is named; 570")
    add("--quick", action="store_true", help="small, to see that it runs")
    add("--json", action="store_true", help="one document on stdout")
    options = parser.parse_args(arguments)
    _fill_in(parser, options)
    return options


def _fill_in(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What was not said, by device and size."""
    if options.device != "cpu":
        import torch

        has_cuda = torch.cuda.is_available()
        if options.device == "cuda" and not has_cuda:
            parser.error(f"torch {torch.__version__} sees no CUDA device; use --device cpu")
        options.device = "cuda" if has_cuda else "cpu"
    is_cuda = options.device == "cuda"
    options.unet = options.unet or ("sd15" if is_cuda else "miniature")
    is_large = options.unet == "sd15"
    _default(options, QUICK if options.quick else {})
    _default(
        options,
        {
            "rank": 16 if is_large else 4,
            "stacks": (1, 8, 32, 64, 128) if is_large else (1, 2, 4, 8, 16, 32, 64),
            "batch": (1, 4),
            "seconds": 2.0,
            "processes": (1,) if is_cuda else tuple(dict.fromkeys((1, n_cores()))),
            "compile": is_cuda,
        },
    )


def _default(options: argparse.Namespace, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few; choose 1 or more")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} s is no time; choose more than 0")
    return number


def _several(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, once each and as given."""
    return tuple(dict.fromkeys(_positive(part) for part in text.split(",")))


if __name__ == "__main__":
    main()
