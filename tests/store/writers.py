"""Writers for test_chaos.py, forked by a process of their own that kills and replaces them.

python writers.py STORE race SEED      write every row, two writers each, and kill writers
python writers.py STORE rewrite SECONDS  write a few rows over and over with other weights
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable

import numpy as np

from lorastyle.records import digest
from lorastyle.store.adapter_store import AdapterStore

N_ROWS, N_WRITERS, N_KILLS = 500, 8, 36
REWRITTEN = 4


def vector_of(row: int, size: int) -> np.ndarray:
    """The weights that a row's spec determines."""
    return np.random.default_rng(row).standard_normal(size).astype(np.float32)


def rows_of(writer: int) -> range:
    """Two writers have the same rows, and take them in the same order."""
    return range(writer // 2, N_ROWS, N_WRITERS // 2)


def write_rows(path: str, writer: int) -> None:
    store = AdapterStore.open(path)
    # A writer that replaces a killed one begins at its rival's heels.
    for row in store.missing({row: digest({"row": row}) for row in rows_of(writer)}):
        store.commit(row, vector_of(row, store.size), {"row": row}, {"writer": writer})


def rewrite_rows(path: str, writer: int, seconds: float) -> None:
    store, rng = AdapterStore.open(path), random.Random(writer)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = rng.randint(1, 1_000_000)
        vector = np.full(store.size, value, np.float32)
        store.commit(rng.randrange(REWRITTEN), vector, {"value": value}, {})


def fork(work: Callable[[], None]) -> int:
    if pid := os.fork():
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def race(path: str, seed: int) -> int:
    """Run all writers to the end, killing some at random moments; returns the kills."""
    rng, n_kills = random.Random(seed), 0
    start = lambda writer: fork(lambda: write_rows(path, writer))  # noqa: E731
    running = {start(writer): writer for writer in range(N_WRITERS)}
    while running:
        time.sleep(rng.uniform(0, 0.04))
        if n_kills < N_KILLS:
            os.kill(rng.choice(list(running)), signal.SIGKILL)
        for pid in list(running):
            if not (ended := os.waitpid(pid, os.WNOHANG))[0]:
                continue
            writer = running.pop(pid)
            if os.WIFSIGNALED(ended[1]):
                n_kills += 1
                running[start(writer)] = writer
            elif ended[1]:
                raise SystemExit(f"writer {writer} failed")
    return n_kills


if __name__ == "__main__":
    if sys.argv[2] == "race":
        print(race(sys.argv[1], int(sys.argv[3])))
    else:
        pids = [
            fork(lambda one=one: rewrite_rows(sys.argv[1], one, float(sys.argv[3])))
            for one in range(2)
        ]
        sys.exit(any(os.waitpid(pid, 0)[1] for pid in pids))
