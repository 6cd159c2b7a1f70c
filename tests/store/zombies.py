"""Writers that fall asleep, for test_zombies.py: a process stopped at every step of a commit.

python zombies.py STORE line|call STRIDE

For each step k, in strides: epoch 1 begins to commit a row and stops itself at its k-th line
of the store's code (or its k-th call of the bucket's). Epoch 2 is claimed and commits the row,
of another spec or the same. Then the first one wakes up. Fails where that changes a byte;
prints, as JSON, how often each ending was seen.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from lorastyle.errors import FencedError, StoreError
from lorastyle.places import locking
from lorastyle.places.place import place_of
from lorastyle.records import digest
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.epochs import EpochLog, Fence

DONE, FENCED, LOCKED, FAILED = 0, 10, 11, 12
ENDINGS = {DONE: "done", FENCED: "fenced", LOCKED: "locked", FAILED: "failed"}
CODE = ("lorastyle/places/", "lorastyle/store/writing", "lorastyle/store/commits",
        "lorastyle/store/epochs", "lorastyle/store/shards")  # fmt: skip
CALLS = "lorastyle/places/bucket"
SPECS = {1: {"attempt": 1}, 2: {"attempt": 2}}


class Sleeper:
    """Stops this process at the k-th event of the store's code."""

    def __init__(self, event: str, k: int) -> None:
        self._event, self._left = event, k
        self._code = CODE if event == "line" else (CALLS,)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in self._code):
            return None
        if event == self._event:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
        return self


def fork(work: Callable[[], Any]) -> int:
    if pid := os.fork():
        return pid
    # One lock, held for a moment: who is stopped within holds up the others.
    locking.LIMIT_S = 0.1
    try:
        work()
    except FencedError:
        os._exit(FENCED)
    except StoreError as error:
        if "has been locked by another process" in str(error):
            os._exit(LOCKED)
        print(error, file=sys.stderr)
        os._exit(FAILED)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(FAILED)
    os._exit(DONE)


def run(work: Callable[[], Any]) -> str:
    """Do it in a process of its own: threads of a bucket's client do not survive a fork."""
    return ENDINGS[os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])]


def ask(work: Callable[[], str]) -> str:
    """The same, for an answer."""
    reading, writing = os.pipe()
    assert run(lambda: os.write(writing, work().encode())) == "done"
    os.close(writing)
    with os.fdopen(reading) as file:
        return file.read()


class Trial:
    """One row, written by an attempt that sleeps and by one that takes over."""

    def __init__(self, path: str, row: int, zombies_spec: dict[str, int]) -> None:
        self.path, self.row, self.zombies_spec = path, row, zombies_spec
        self.epochs = place_of(path).child(f"epochs-{row}")

    def epoch_1(self) -> Fence:
        return EpochLog(self.epochs).claim()

    def prepare(self) -> None:
        """A row that stands, of yet another spec."""
        store = AdapterStore.open(self.path)
        store.fenced(self.epoch_1()).commit(self.row, _vector(store, 0), {}, {})

    def sleep(self, event: str, k: int) -> None:
        store = AdapterStore.open(self.path).fenced(Fence(self.epochs, 1))
        vector = _vector(store, 1)
        sys.settrace(Sleeper(event, k))
        store.commit(self.row, vector, self.zombies_spec, {})
        sys.settrace(None)

    def take_over(self) -> None:
        store = AdapterStore.open(self.path)
        fence = EpochLog(self.epochs).claim()
        store.fenced(fence).commit(self.row, _vector(store, 2), SPECS[2], {})

    def finish(self) -> None:
        store = AdapterStore.open(self.path)
        store.fenced(Fence(self.epochs, 2)).commit(self.row, _vector(store, 2), SPECS[2], {})

    def state(self) -> str:
        """Record and weights, to the byte."""
        place = place_of(self.path)
        record = place.child("commits").read(f"{self.row:08d}.json")
        return digest([repr(record), repr(place.child("weights/c").read(f"{self.row}/0"))])

    def check(self, state: str) -> None:
        """The row is as the second attempt left it, and whole."""
        store = AdapterStore.open(self.path)
        record = store.record(self.row)
        assert record is not None
        assert (record.epoch, record.spec) == (2, SPECS[2])
        assert store.verify(self.row)
        assert state in ("", self.state())


def _vector(store: AdapterStore, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(store.size).astype(np.float32)


def sleep_through(trial: Trial, event: str, k: int) -> str | None:
    """What became of the other, and of the sleeper; None where there is no k-th step."""
    # Every second row stands already, of another spec; the others are new.
    assert run(trial.prepare if trial.row % 2 else trial.epoch_1) == "done"
    zombie = fork(lambda: trial.sleep(event, k))
    if not os.WIFSTOPPED(os.waitpid(zombie, os.WUNTRACED)[1]):
        return None
    other = run(trial.take_over)
    state = ask(trial.state) if other == "done" else ""
    os.kill(zombie, signal.SIGCONT)
    woken = ENDINGS[os.waitstatus_to_exitcode(os.waitpid(zombie, 0)[1])]
    if other == "locked":
        # Stopped while it held the lock. Once it is gone the row is made all the same.
        assert run(trial.finish) == "done"
    assert run(lambda: trial.check(state)) == "done", f"step {k}: {other}, then {woken}"
    return f"{other}, then {woken}"


def main(path: str, event: str, stride: str) -> None:
    counts: Counter[str] = Counter()
    for k in itertools.count(1, int(stride)):
        trial = Trial(path, k, SPECS[1 + k // 2 % 2])
        if (ended := sleep_through(trial, event, k)) is None:
            break
        counts[ended] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
