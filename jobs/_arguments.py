"""The command line that all jobs share: what to run, where, and with which changes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs._stopping import INTERRUPTED, STOPPED, Stopped, stoppable
from lorastyle.cli.dry_run import preview
from lorastyle.cli.opening import DEFAULT_PARENT
from lorastyle.config import load_experiment
from lorastyle.distributed.pipeline import run_stages, write_run_components
from lorastyle.errors import ConfigError, LorastyleError
from lorastyle.runs import Run, StageOutcome, location


def main(stages: Sequence[str], arguments: Sequence[str] | None = None) -> int:
    """Carry out `stages` of a run; the job's exit status.

    0 done, 1 failed, 2 wrong use, 130 interrupted, 143 stopped by SIGTERM (`ray job stop`).
    """
    parser = _parser(stages)
    parsed = parser.parse_args(arguments)
    if parsed.run is None and not parsed.dry_run:
        parser.error("--run is needed: where the run lies; only --dry-run goes without")
    try:
        with stoppable():
            _carry_out(parsed, stages)
    except (Stopped, KeyboardInterrupt) as end:
        print("stopped; the same job goes on where this one ended", file=sys.stderr)
        return STOPPED if isinstance(end, Stopped) else INTERRUPTED
    except LorastyleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _carry_out(parsed: argparse.Namespace, stages: Sequence[str]) -> None:
    experiment = load_experiment(parsed.config, parsed.overrides)
    if parsed.dry_run:
        place = parsed.run or DEFAULT_PARENT / experiment.name
        print(preview(experiment, place, parsed.samples_per_s).text)
        return
    run = Run.create(parsed.run, experiment, force=parsed.force)
    run_stages(
        run,
        stages,
        force=parsed.force,
        train_missing=parsed.train_missing,
        on_outcome=_say,
    )
    if parsed.write_components:
        for path in write_run_components(run):
            print(path, flush=True)


def _parser(stages: Sequence[str]) -> argparse.ArgumentParser:
    program = stages[0] if len(stages) == 1 else "run"
    parser = argparse.ArgumentParser(prog=f"python -m jobs.{program}")
    parser.add_argument("--config", type=Path, required=True, help="YAML of the experiment")
    parser.add_argument(
        "--run",
        type=_location,
        help="directory of the run, seen by every node, or its URL: s3://..., gs://...; "
        "--dry-run can do without",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and its cost, and stop"
    )
    parser.add_argument(
        "--samples-per-s",
        type=_rate,
        help="with --dry-run: predict the time of training at this rate of one GPU, or core",
    )
    parser.add_argument("--force", action="store_true", help="make again what other inputs made")
    if "embed" in stages:
        parser.add_argument(
            "--write-components", action="store_true", help="write the components (k x d) too"
        )
    if "sweep" in stages:
        parser.add_argument(
            "--train-missing",
            action="store_true",
            help="train the adapters of ranks in sweep.ranks that are missing",
        )
    parser.set_defaults(write_components=False, train_missing=False)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as in rank=8")
    return parser


def _location(text: str) -> Path | str:
    try:
        return location(text)
    except LorastyleError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; give a number above 0")
    return rate


def _say(outcome: StageOutcome) -> None:
    done = "was done already" if outcome.skipped else f"done in {outcome.wall_s:.0f} s"
    print(f"{outcome.stage}: {done}", flush=True)
