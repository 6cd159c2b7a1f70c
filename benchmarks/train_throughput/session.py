"""One session: check that both sides train the same, measure them all, write it down."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from benchmarks.train_throughput.contest import Contest
from benchmarks.train_throughput.contestants import (
    arrangements,
    compiled_contestants,
    eager_contestants,
)
from benchmarks.train_throughput.machine import n_cores
from benchmarks.train_throughput.processes import Crew, Failure
from benchmarks.train_throughput.rates import SAMPLES, rows
from benchmarks.train_throughput.records import Contestant, Entry, Subject, Timing

SCHEMA = 1
UNETS = {"miniature": "the miniature", "sd15": "Stable Diffusion 1.5's shapes, random weights"}
MATMUL_SIZE = {"cpu": 1_024, "cuda": 8_192}
TASK_S = 120.0
"""For each of the small tasks before and after the contest."""

Say = Callable[[str], None]


def hold(options: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Measure everything that `options` of the command line ask for; the document, plain JSON.

    Raises Failure where the machine cannot even be described, or multiply.
    """
    deadline = time.monotonic() + options.time_limit_s
    subject = Subject(options.unet, options.rank, options.device)
    with ExitStack() as open_crews:
        crews = [
            open_crews.enter_context(Crew(subject, arrangement))
            for arrangement in arrangements(options.processes, n_cores())
        ]
        say(f"{UNETS[options.unet]} on {options.device}")
        machine = _alone(crews[0], "machine:describe")
        say("do both sides train the same?")
        agreed = [_agreement(crews[0], each) for each in dict.fromkeys(("cpu", options.device))]
        product = ("measuring:matmul_rate", MATMUL_SIZE[options.device], options.seconds / 2)
        matmul = max(sum(crew.do(*product, limit_s=TASK_S)) for crew in crews)
        contest = Contest(crews, Timing(options.seconds), options.rounds, deadline, say)
        modes = _peer_modes(crews[0], options, machine["unet"]["dtype"])
        contest.run(_contestants(options, autocast=_fastest(modes) == "autocast"))
    flops = machine["unet"]["training_flops_a_sample"]
    return {
        "schema": SCHEMA,
        "benchmark": "train_throughput",
        **machine,
        "unet": {"name": UNETS[options.unet], **machine["unet"]},
        "settings": {
            name: getattr(options, name) for name in ("stacks", "batch", "seconds", "rounds")
        },
        "samples_an_adapter": SAMPLES,
        "agreement": agreed,
        "matmul": {"size": product[1], "tflop_per_s": matmul / 1e12},
        "peer_modes": modes,
        "rows": rows(contest.measured, flops, matmul),
        "not_measured": [_missing(contest, entry, why) for entry, why in contest.missing.items()],
    }


def _alone(crew: Crew, task: str, *arguments: Any) -> Any:
    """What the first process of a crew says."""
    return crew.do(task, *arguments, limit_s=TASK_S)[0]


def _agreement(crew: Crew, device: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = _alone(crew, "agreement:of_miniature", device)
    except Failure as failure:
        return {"device": device, "agree": None, "why": str(failure)}
    return found


def _peer_modes(crew: Crew, options: argparse.Namespace, dtype: str) -> dict[str, float]:
    """Samples a second of PEFT in each way to compute in bfloat16: it gets the faster one."""
    if dtype != "bfloat16":
        return {}
    timing = Timing(options.seconds / 2)
    rates = {}
    for name, autocast in (("plain", False), ("autocast", True)):
        peer = Contestant("peft", options.batch[0], autocast=autocast)
        with suppress(Failure):  # told once more, in the contest
            found = crew.do("measuring:measure", peer, timing, limit_s=TASK_S)
            rates[name] = sum(each.samples_per_s for each in found)
    return rates


def _fastest(modes: dict[str, float]) -> str:
    return max(modes, key=modes.__getitem__, default="")


def _contestants(options: argparse.Namespace, *, autocast: bool) -> list[Contestant]:
    eager = eager_contestants(options.batch, options.stacks, autocast=autocast)
    if not options.compile:
        return eager
    graphs = options.device == "cuda"
    return eager + compiled_contestants(
        options.batch[0], options.stacks, autocast=autocast, graphs=graphs
    )


def _missing(contest: Contest, entry: Entry, why: str) -> dict[str, Any]:
    contestant, arrangement = entry
    return {
        "name": contestant.name,
        "processes": arrangement.n_processes,
        "threads": arrangement.n_threads,
        "rounds": len(contest.measured.get(entry, ())),
        "why": why,
    }
