"""Run a command in its own process, within a time and a memory limit, and measure it.

What does not finish is a result, not an error: a method that needs eleven times the
memory of the data says so in the table.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import psutil

GIB = 2**30
LOOK_S = 0.02
"""Between two looks at the memory; the kernel's own high-water mark fills the gaps."""
CENSUS_S = 0.25
"""Between two searches for children: they cost 2 ms each, which the measured would miss."""
TAIL_CHARACTERS = 2_000


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    status: str
    """`finished`, `out of time`, `out of memory` or `failed`."""
    wall_s: float
    """From start to end, with the interpreter and imports."""
    peak_bytes: float
    """Most resident memory of it and its children together: interpreter, libraries, all."""
    explanation: str
    """Empty if it finished; else one sentence, or the end of what it printed."""


def run_isolated(
    command: Sequence[str],
    *,
    time_limit_s: float,
    memory_limit_gib: float,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Outcome:
    """Run `command` to its end or to a limit; at a limit it is killed, and its children are.

    The peak is the larger of the resident memory of all its processes, sampled, and
    the kernel's high-water mark of the first (Linux), which misses nothing.
    """
    with TemporaryFile() as output:
        start = time.perf_counter()
        process = psutil.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
        )
        try:
            status, peak_bytes = _watch(process, start + time_limit_s, memory_limit_gib * GIB)
        finally:
            _kill(process)
        wall_s = time.perf_counter() - start
        explanation = {
            "out of time": f"did not finish in {time_limit_s:g} s",
            "out of memory": f"exceeded {memory_limit_gib:g} GiB",
            "failed": f"ended with {process.returncode}: {_tail(output)}",
        }.get(status, "")
    return Outcome(status, wall_s, peak_bytes, explanation)


def _watch(process: psutil.Popen, deadline: float, limit: float) -> tuple[str, float]:
    """How it ended or which limit it met, and its peak in bytes."""
    peak, census = 0.0, 0.0
    children: list[psutil.Process] = []
    while process.poll() is None:
        now = time.perf_counter()
        if now > census:
            children, census = _children(process), now + CENSUS_S
        peak = max(peak, sum(map(_resident, (process, *children))), _high_water(process.pid))
        if peak > limit:
            return "out of memory", peak
        if now > deadline:
            return "out of time", peak
        time.sleep(LOOK_S)
    return ("failed" if process.returncode else "finished"), peak


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:  # it has just ended
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _high_water(pid: int) -> float:
    """The kernel's mark in bytes; not `ru_maxrss`, which starts with the parent's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # ended, or no Linux
        return 0.0
    marks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024.0 * int(marks[0]) if marks else 0.0


def _kill(process: psutil.Popen) -> None:
    for each in (*_children(process), process):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace").strip()[-TAIL_CHARACTERS:]
