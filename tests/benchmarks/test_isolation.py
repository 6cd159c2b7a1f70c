"""A limit that is met is a result, and nothing outlives it."""

import sys
import time

import psutil
import pytest

from benchmarks.isolation import run_isolated

MB = 1e6


def run(code, **limits):
    return run_isolated(
        [sys.executable, "-c", code], **({"time_limit_s": 30, "memory_limit_gib": 4} | limits)
    )


def test_the_peak_is_what_was_held_at_once_even_where_it_was_freed_at_the_end():
    idle = run("import time; time.sleep(0.1)")
    held = run("import time; x = b'x' * 300_000_000; del x; time.sleep(0.1)")
    assert (idle.status, held.status) == ("finished", "finished")
    assert held.peak_bytes - idle.peak_bytes == pytest.approx(300 * MB, rel=0.05)
    assert held.wall_s > 0.1


def test_memory_of_children_counts():
    child = "import time; x = b'x' * 200_000_000; time.sleep(0.5)"
    outcome = run(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    assert outcome.peak_bytes > 200 * MB


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_takes_too_long_is_stopped_with_its_children(tmp_path):
    note = tmp_path / "pid"
    child = "import time; time.sleep(60)"
    code = (
        "import subprocess, sys, pathlib\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "child.wait()"
    )
    start = time.perf_counter()
    outcome = run(code, time_limit_s=1)
    assert (outcome.status, outcome.explanation) == ("out of time", "did not finish in 1 s")
    assert time.perf_counter() - start < 10
    # What was killed takes a moment to vanish.
    deadline = time.monotonic() + 10
    while runs(int(note.read_text())):
        assert time.monotonic() < deadline, "its child lives on"
        time.sleep(0.02)


def test_what_takes_too_much_memory_is_stopped():
    outcome = run("x = b'x' * 2_000_000_000", memory_limit_gib=0.25)
    assert (outcome.status, outcome.explanation) == ("out of memory", "exceeded 0.25 GiB")


def test_a_failure_is_told_in_its_own_words():
    outcome = run("raise ValueError('no such solver')")
    assert outcome.status == "failed"
    assert outcome.explanation.endswith("ValueError: no such solver")
