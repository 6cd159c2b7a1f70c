"""Processes in which contestants are measured: theirs are the threads, the GPU, the memory.

A process that dies, or is silent for too long, is a result like lack of memory: its crew is
started anew for the next contestant.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from threading import BrokenBarrierError
from types import TracebackType
from typing import Any, Self

from benchmarks.train_throughput.records import Arrangement, Subject

START_S = 120.0
"""For a process to import PyTorch and to make its U-Net, beside what a task may take."""
END_S = 20.0
"""For a process to end by itself."""

Reply = tuple[str, Any]
"""`done` and a value, or why not: `memory`, `error`, `others` and a sentence."""


class Failure(Exception):  # noqa: N818
    """A task was not done; it says why."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.is_memory = kind == "memory"


class Crew:
    """Processes that do the same task at the same time, each on a U-Net of its own."""

    def __init__(self, subject: Subject, arrangement: Arrangement) -> None:
        self.arrangement = arrangement
        self._subject = subject
        self._context = multiprocessing.get_context("spawn")
        self._barrier = self._context.Barrier(arrangement.n_processes)
        self._members: dict[Connection, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def do(self, task: str, *arguments: Any, limit_s: float) -> list[Any]:
        """What all processes give for MODULE:FUNCTION of this package, called with the workbench.

        Raises Failure; a crew that is late is stopped.
        """
        if not self._members:
            self._start()
            limit_s += START_S
        for connection in self._members:
            with suppress(OSError):  # it has ended; receiving will tell
                connection.send((task, arguments))
        replies = self._replies(time.monotonic() + limit_s)
        kinds = {kind for kind, _ in replies}
        # Where one runs out of memory, the others only miss it at the barrier.
        for kind in ("error", "memory", "others"):
            if kind in kinds:
                self._mend(kind)
                raise Failure(kind, next(why for found, why in replies if found == kind))
        return [value for _, value in replies]

    def stop(self, patience_s: float = END_S) -> None:
        """End all processes, those at work too; the next task starts others."""
        for connection in self._members:
            connection.close()
        deadline = time.monotonic() + patience_s
        for process in self._members.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._members = {}

    def _start(self) -> None:
        self._barrier = self._context.Barrier(self.arrangement.n_processes)
        for _ in range(self.arrangement.n_processes):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=serve,
                args=(theirs, self._barrier, self._subject, self.arrangement.n_threads),
            )
            process.start()
            theirs.close()
            self._members[ours] = process

    def _replies(self, deadline: float) -> list[Reply]:
        """Of all members; of the first that is dead or late only, for the others wait for it."""
        replies: list[Reply] = []
        pending = dict(self._members)
        while pending:
            ready = wait(list(pending), max(0.0, deadline - time.monotonic()))
            if not ready:
                return [("error", "did not end in time and was stopped")]
            for connection in [each for each in pending if each in ready]:
                process = pending.pop(connection)
                try:
                    replies.append(connection.recv())
                except (EOFError, OSError):
                    process.join(END_S)
                    return [("error", f"its process ended with {process.exitcode}")]
        return replies

    def _mend(self, kind: str) -> None:
        if kind == "error":
            self.stop(0.0)  # a GPU's errors stay with its process
        else:
            self._barrier.reset()


def serve(connection: Connection, barrier: Any, subject: Subject, n_threads: int) -> None:
    """A process's life: do what comes until nobody is there to send more."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the answer alone is on standard output
    import torch

    from benchmarks.train_throughput.workbench import Workbench

    torch.set_num_threads(n_threads)
    bench = None
    while True:
        try:
            task, arguments = connection.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            if bench is None:
                bench = Workbench.of(subject)
                bench.together = barrier.wait
            module, _, name = task.partition(":")
            function = getattr(import_module(f"{__package__}.{module}"), name)
            reply: Reply = ("done", function(bench, *arguments))
        except Exception as error:
            reply = why_not(error)
            barrier.abort()
        connection.send(reply)


def why_not(error: Exception) -> Reply:
    """What a failed task has to say: a kind and one line."""
    from accelerate.utils.memory import should_reduce_batch_size
    from torch import OutOfMemoryError

    if isinstance(error, BrokenBarrierError):
        return "others", "another process failed"
    if isinstance(error, OutOfMemoryError) or should_reduce_batch_size(error):
        return "memory", "out of memory"
    first_line = str(error).strip().partition("\n")[0]
    return "error", f"{type(error).__name__}: {first_line}"
