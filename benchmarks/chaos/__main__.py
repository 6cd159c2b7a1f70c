"""A few hundred adapters are trained while actors, nodes and drivers are killed at random.

    python -m benchmarks.chaos --minutes 10 --kill-every 20 [--adapters 300] [--json]

A cluster of fake GPUs on this machine, with autoscaling; each driver that dies is submitted
again with the same command. At the end the store is compared, row by row, with that of an
undisturbed run of the same plan. Needs two cores and some 3 GiB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.killing import KINDS, Killer
from lorastyle.config import Experiment, parse_experiment
from lorastyle.corpus.stage import plan
from lorastyle.distributed.fleet import LOGS
from lorastyle.distributed.local_cluster import LocalCluster
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore

REPOSITORY = Path(__file__).parents[2]
A_ARTIST = 25
"""Adapters of an artist."""
N_ACTORS = 2
LONGEST_DRIVER_S = 1800.0


@dataclass(frozen=True)
class Outcome:
    """What the chaos cost, and whether it cost a row."""

    rows_expected: int
    rows_correct: int
    """Equal to the undisturbed run's, to the last bit."""
    rows_lost: int
    duplicates: int
    """Rows with anything but one record and one shard."""
    kills: dict[str, int]
    drivers: int
    """Started, the last one among them."""
    minutes: float
    undisturbed_minutes: float
    begun: int
    """Trainings begun, of all attempts together."""
    work_repeated: float
    """Share of the trainings that had been begun before."""


def main() -> int:
    """Run it; 0 if no row is lost, doubled or wrong."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        outcome = measure(Path(place), options)
    print(json.dumps(asdict(outcome), indent=2) if options.json else table(outcome))
    whole = outcome.rows_correct == outcome.rows_expected
    return 0 if whole and not outcome.rows_lost and not outcome.duplicates else 1


def measure(place: Path, options: argparse.Namespace) -> Outcome:
    """The undisturbed run, then the same among kills."""
    experiment = experiment_of(options.adapters, options.steps)
    calm, chaotic = (Run.create(place / name, experiment) for name in ("calm", "chaos"))
    for run in (calm, chaotic):
        plan(run, image_size=64)
    with LocalCluster(nodes=N_ACTORS, gpus_per_node=1, idle_s=30) as cluster:
        calm_s, _ = train_until_done(calm, cluster, None)
        say(f"undisturbed: {calm_s:.0f} s")
        current: list[psutil.Process] = []
        killer = Killer(
            cluster,
            lambda: current[-1] if current and current[-1].is_running() else None,
            every_s=options.kill_every,
            seed=options.seed,
            say=say,
        )
        killer.start()
        chaos_s, n_drivers = train_until_done(
            chaotic, cluster, killer, current, stop_after_s=60 * options.minutes
        )
    begun, repeated = trainings(chaotic)
    return Outcome(
        **compare(calm, chaotic),
        kills={kind: killer.kills[kind] for kind in KINDS},
        drivers=n_drivers,
        minutes=round(chaos_s / 60, 1),
        undisturbed_minutes=round(calm_s / 60, 1),
        begun=begun,
        work_repeated=round(repeated / begun, 4),
    )


def experiment_of(n_adapters: int, n_steps: int) -> Experiment:
    """Adapters of the shipped miniature, `A_ARTIST` an artist."""
    return parse_experiment(
        {
            "name": "chaos",
            "corpus": {"n_artists": max(2, -(-n_adapters // A_ARTIST)), "works_per_artist": 30,
                       "min_works": 20},
            "protocol": {"train": 18, "calibration": 2, "val": 2, "test": 2, "query_calibration": 1,
                         "query_val": 1, "query_test": 1, "images_per_adapter": 5,
                         "images_per_query": 3, "reserved_val": 6, "reserved_test": 6,
                         "max_overlap": 0.8},
            "training": {"rank": 4, "alpha": 2, "learning_rate": 3e-3, "n_steps": n_steps,
                         "batch_size": 4, "stack": 8, "checkpoint_every": 20},
            "compute": {"n_actors": N_ACTORS, "gpus_per_actor": 1.0},
        }
    )  # fmt: skip


def train_until_done(
    run: Run,
    cluster: LocalCluster,
    killer: Killer | None,
    current: list[psutil.Process] | None = None,
    *,
    stop_after_s: float = float("inf"),
) -> tuple[float, int]:
    """Start drivers until one ends well; seconds that took, and how many there were."""
    start, n_drivers = time.monotonic(), 0
    while True:
        n_drivers += 1
        driver = _start_driver(run, cluster)
        if current is not None:
            current.append(psutil.Process(driver.pid))
        while driver.poll() is None:
            elapsed_s = time.monotonic() - start
            if killer is not None and killer.is_alive() and elapsed_s > stop_after_s:
                killer.stop()
                say("no more kills")
            if elapsed_s > stop_after_s + LONGEST_DRIVER_S:
                driver.kill()
                raise SystemExit("the run did not end")
            time.sleep(0.2)
        if driver.returncode == 0:
            if killer is not None:
                killer.stop()
            return time.monotonic() - start, n_drivers
        say(f"driver {n_drivers} ended with {driver.returncode}; the same command again")


def _start_driver(run: Run, cluster: LocalCluster) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.train", "--config", run.config_path, "--run"]
    return subprocess.Popen(
        [*command, str(run.directory)],
        cwd=REPOSITORY,
        env={**cluster.environment, "OMP_NUM_THREADS": "1"},
        stdout=sys.stderr,
        stderr=sys.stderr,
    )


def trainings(run: Run) -> tuple[int, int]:
    """Trainings begun by all attempts, and how many of them were begun before."""
    begun: Counter[str] = Counter()
    for log in sorted((run.directory / LOGS).glob("train-*.jsonl")):
        for line in log.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "assigned":
                begun.update(event["adapters"])
    return sum(begun.values()), sum(n - 1 for n in begun.values())


def compare(calm: Run, chaotic: Run) -> Mapping[str, int]:
    """Rows of the two stores beside each other."""
    expected, got = (AdapterStore.open(run.store_path) for run in (calm, chaotic))
    wanted, there = expected.committed(), got.committed()
    correct = [
        row
        for row, record in wanted.items()
        if row in there
        and (there[row].status, there[row].checksum) == (record.status, record.checksum)
        and got.verify(row)
    ]
    return {
        "rows_expected": len(wanted),
        "rows_correct": len(correct),
        "rows_lost": len(wanted.keys() - there.keys()),
        "duplicates": _doubled(chaotic, len(wanted)),
    }


def _doubled(run: Run, n_rows: int) -> int:
    """Records and shards beyond one of each a row."""
    records = [path.name for path in (run.store_path / "commits").glob("*.json")]
    shards = [path.parent.name for path in (run.store_path / "weights" / "c").glob("*/0")]
    return abs(len(records) - n_rows) + abs(len(shards) - n_rows)


def table(outcome: Outcome) -> str:
    """The outcome for people."""
    kills = ", ".join(f"{n} {kind}s" for kind, n in outcome.kills.items())
    lines: Sequence[tuple[str, Any]] = (
        ("rows expected", outcome.rows_expected),
        ("rows correct", outcome.rows_correct),
        ("rows lost", outcome.rows_lost),
        ("duplicates", outcome.duplicates),
        ("killed", kills),
        ("drivers started", outcome.drivers),
        ("trainings begun", outcome.begun),
        ("work repeated", f"{outcome.work_repeated:.1%}"),
        ("time", f"{outcome.minutes} min, undisturbed {outcome.undisturbed_minutes} min"),
    )
    return "\n".join(f"{name:<16} {value}" for name, value in lines)


def say(text: str) -> None:
    """A line for the person watching."""
    print(f"chaos: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--minutes", type=float, default=10.0, help="kill for so long at most")
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds, on average")
    parser.add_argument("--adapters", type=int, default=300)
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps of an adapter")
    parser.add_argument("--seed", type=int, default=0, help="draws victims and times")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    # Two drivers and the cluster's own processes share two cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
