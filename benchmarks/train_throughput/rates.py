"""From samples a second to what somebody who trains adapters wants to know; plain arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.train_throughput.records import N_STEPS, Contestant, Entry, Measured

SAMPLES = {"interleaved": N_STEPS, "paired": 2 * N_STEPS}
"""Of an adapter, by what a step of the paper's holds: an image, or an image and another that
regularises. At a larger batch as many, in fewer steps."""

Rounds = Sequence[Sequence[Measured]]
"""Of each round, all processes."""


def rows(
    measured: Mapping[Entry, Rounds], flops_a_sample: float, matmul_flops_per_s: float
) -> list[dict[str, Any]]:
    """A row for each contestant, in the better of its arrangements; plain JSON.

    `lead` is the rate over that of PEFT's plain loop at the first batch, `lead_over_best` over
    the best of all PEFT's rows; None where there are none.
    """
    contestants = dict.fromkeys(contestant for contestant, _ in measured)
    found = [_row(contestant, measured) for contestant in contestants]
    peers = [row for row in found if row["who"] == "peft"]
    plain = next((row["samples_per_s"] for row in peers if not row["compiled"]), None)
    best = max((row["samples_per_s"] for row in peers), default=None)
    for row in found:
        rate = row["samples_per_s"]
        row["lead"] = rate / plain if plain else None
        row["lead_over_best"] = rate / best if best else None
        row["adapters_per_h"] = {name: 3600 * rate / n for name, n in SAMPLES.items()}
        row["s_an_adapter"] = {name: n / rate for name, n in SAMPLES.items()}
        row["share_of_matmul"] = rate * flops_a_sample / matmul_flops_per_s
    return found


def _row(contestant: Contestant, measured: Mapping[Entry, Rounds]) -> dict[str, Any]:
    tried = [
        {
            "processes": arrangement.n_processes,
            "threads": arrangement.n_threads,
            **_figures(rounds),
        }
        for (each, arrangement), rounds in measured.items()
        if each == contestant
    ]
    best, *others = sorted(tried, key=lambda figures: -figures["samples_per_s"])
    return {
        "name": contestant.name,
        "who": contestant.who,
        "stack": contestant.stack,
        "batch": contestant.batch,
        "compiled": contestant.compiled,
        "cuda_graphs": contestant.graphs,
        **best,
        "other_arrangements": others,
    }


def _figures(rounds: Rounds) -> dict[str, Any]:
    """The median of the rounds, of each the sum over processes that ran at the same time."""
    rates = [sum(each.samples_per_s for each in found) for found in rounds]
    peaks = [
        sum(each.peak_bytes for each in found if each.peak_bytes is not None) for found in rounds
    ]
    return {
        "samples_per_s": median(rates),
        "samples_per_cpu_s": median(
            sum(each.samples_per_s * each.wall_s for each in found)
            / sum(each.cpu_s for each in found)
            for found in rounds
        ),
        "rounds": rates,
        "spread": (max(rates) - min(rates)) / median(rates),
        "prepare_s": max(each.prepare_s for each in rounds[0]),
        # The least of the rounds: an allocator keeps what others left.
        "peak_gb": min(peaks) / 1e9 or None,
    }
