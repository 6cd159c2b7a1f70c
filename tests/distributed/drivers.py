"""Drivers in processes of their own, to be stopped, killed and waited for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lorastyle.runs import Run

REPOSITORY = Path(__file__).parents[2]


def start_driver(
    run: Run,
    environment: Mapping[str, str],
    *command: str,
    output: int = subprocess.PIPE,
    **changes: object,
) -> subprocess.Popen[str]:
    """`jobs.train` on that run, or another command; what it says comes out of `communicate`."""
    train = ["jobs.train", "--config", str(run.config_path), "--run", str(run.location)]
    overrides = [f"{key}={value}" for key, value in changes.items()]
    return subprocess.Popen(
        [sys.executable, "-m", *(command or (*train, *overrides))],
        cwd=REPOSITORY,
        env=dict(environment),
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    """Until `condition` holds. Fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def wait_for_the_first_row(run: Run) -> None:
    """Until a row of a run in a directory is committed."""
    wait_until(lambda: any((run.directory / "adapters.zarr" / "commits").glob("0*.json")))
