"""How well the fleet keeps actors busy, and what it costs to give an actor work.

    python -m benchmarks.fleet [--seconds 2] [--a-actor 30] [--json]

Actors of one fake GPU each on a cluster of this machine; their work is to sleep, so that two
cores can stand for eight machines: what is measured is the dispatcher, Ray and the commit of
nothing. Efficiency is the time the sleeps alone would take, over the time from the first actor
that was ready to the last result; starting actors is a column of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lorastyle.distributed.dispatch import Crew, dispatch
from lorastyle.distributed.local_cluster import LocalCluster
from lorastyle.distributed.watch import Watch

SIZES = (1, 2, 4, 8)
N_TINY = 500


class Sleeper:
    """An actor whose work is to wait."""

    def ready(self) -> dict[str, int]:
        return {"pid": os.getpid()}

    def work(self, items: Sequence[float]) -> int:
        for seconds in items:
            time.sleep(seconds)
        return len(items)


class Stopwatch(Watch[float]):
    """When the first and the last actor were ready, and the last result came."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.ready_at: list[float] = []
        self.end = self.start

    def ready(self, worker: str, facts: Mapping[str, Any]) -> None:
        self.ready_at.append(time.monotonic())

    def delivered(self, worker: str, items: Sequence[float], result: Any) -> None:
        self.end = time.monotonic()


@dataclass(frozen=True)
class Row:
    """One size of the fleet."""

    n_actors: int
    n_items: int
    seconds_each: float
    wall_s: float
    """From the first actor that was ready to the last result."""
    ideal_s: float
    """What the same actors would take without any overhead, ready when they were ready."""
    efficiency: float
    first_ready_s: float
    last_ready_s: float
    """From the call on: actors, and the nodes they asked for, had to start."""


def main() -> int:
    """Measure and print."""
    options = _parser().parse_args()
    with LocalCluster(nodes=max(SIZES), gpus_per_node=1, cpus_per_node=1, idle_s=600) as cluster:
        os.environ.update(cluster.client_variables)
        import ray

        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
        try:
            _measure(1, [0.0])  # the cluster's first worker
            rows = [scaled(n, options.seconds, options.a_actor) for n in SIZES]
            tiny_ms = overhead_ms()
        finally:
            ray.shutdown()
    document = {"scaling": [asdict(row) for row in rows], "overhead_ms_an_item": tiny_ms}
    print(json.dumps(document, indent=2) if options.json else table(rows, tiny_ms))
    return 0


def scaled(n_actors: int, seconds: float, a_actor: int) -> Row:
    """The same work for each actor, whatever their number."""
    n_items = a_actor * n_actors
    watch = _measure(n_actors, [seconds] * n_items)
    first = min(watch.ready_at)
    wall_s = watch.end - first
    ideal_s = _ideal_s([at - first for at in watch.ready_at], seconds, n_items)
    return Row(
        n_actors=n_actors,
        n_items=n_items,
        seconds_each=seconds,
        wall_s=round(wall_s, 2),
        ideal_s=round(ideal_s, 2),
        efficiency=round(ideal_s / wall_s, 4),
        first_ready_s=round(first - watch.start, 1),
        last_ready_s=round(max(watch.ready_at) - watch.start, 1),
    )


def _ideal_s(ready_at: list[float], seconds: float, n_items: int) -> float:
    """Each item goes to whoever is free first: how long that takes at least."""
    free = sorted(ready_at)
    for _ in range(n_items):
        free[0] += seconds
        free.sort()
    return max(free)


def overhead_ms() -> float:
    """What an item costs that does nothing, with two actors: milliseconds."""
    watch = _measure(2, [0.0] * N_TINY)
    return round(1000 * (watch.end - max(watch.ready_at)) / N_TINY, 2)


def _measure(n_actors: int, items: list[float]) -> Stopwatch:
    import ray

    actor = ray.remote(Sleeper).options(num_gpus=1, num_cpus=1, max_restarts=0)
    watch = Stopwatch()
    crew = Crew[float](
        hire=lambda: actor.remote(),
        size=n_actors,
        deliver=lambda *_: None,
        give_up=lambda item, reason: sys.exit(reason),
        watch=watch,
    )
    dispatch(crew, [(item,) for item in items])
    return watch


def table(rows: Sequence[Row], tiny_ms: float) -> str:
    """The outcome as Markdown."""
    lines = ["| actors | items | wall s | ideal s | efficiency | first ready s | last ready s |"]
    lines.append("| ---: " * 7 + "|")
    lines += [
        f"| {row.n_actors} | {row.n_items} x {row.seconds_each:g} s | {row.wall_s:.1f} "
        f"| {row.ideal_s:.1f} | {row.efficiency:.1%} | {row.first_ready_s} | {row.last_ready_s} |"
        for row in rows
    ]
    return "\n".join([*lines, "", f"Overhead of an item that does nothing: {tiny_ms} ms."])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet")
    parser.add_argument("--seconds", type=float, default=2.0, help="sleep of an item")
    parser.add_argument("--a-actor", type=int, default=30, help="items for each actor")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
