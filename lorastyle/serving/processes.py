"""Several processes that answer on one socket, each with an app of its own.

What a process works out in Python it works out alone: eight clients are served no faster by
threads. The system hands each new connection to one of those that wait for one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from lorastyle.errors import LorastyleError
from lorastyle.serving.counting import SHARED_COUNTS, forget_process
from lorastyle.serving.gate import App
from lorastyle.serving.server import END_S, address_of, serve_app

Factory = Callable[[], App]
"""Makes the app, in its process: it is pickled on its way there."""
LEAST_LIFE_S = 10.0
"""A process that ended sooner is not begun again: the next one would end as soon."""
_READY = ""


class ProcessError(LorastyleError):
    """A process of a server ended before it could answer."""


class _Child(NamedTuple):
    process: BaseProcess
    pipe: Connection
    """Says `_READY` once, or why not; closes with either end."""
    began: float

    @classmethod
    def start(cls, factory: Factory, listening: socket.socket) -> _Child:
        # Not forked: threads of a library that reads files or multiplies matrices would be lost.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(factory, listening, theirs))
        process.start()
        theirs.close()
        return cls(process, ours, time.monotonic())

    def wait_until_ready(self, ended: threading.Event) -> None:
        while not ended.is_set():
            if self.pipe.poll(0.2):
                said = _received(self.pipe)
                if said != _READY:
                    raise ProcessError(said)
                return

    def wait_until_ended(self) -> None:
        """Of one that was told to end, within the time that what is under way may take."""
        self.process.join(END_S + 5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def serve(
    factory: Factory, listening: socket.socket, n: int, on_listening: Callable[[str], None]
) -> None:
    """Answer by `n` processes until a signal; by this one where it is one.

    Raises what `factory` raises, before any process begins.
    """
    app = factory()
    if n == 1:
        serve_app(app, listening, on_listening)
        return
    # What was wrong has been said by now, and what all need is kept in the run.
    del app
    serve_processes(factory, listening, n, on_listening)


def serve_processes(
    factory: Factory,
    listening: socket.socket,
    n: int,
    on_listening: Callable[[str], None] = lambda _: None,
    *,
    ended: threading.Event | None = None,
) -> None:
    """Answer by `n` processes until a signal, or until `ended` is set. One that dies is replaced.

    Raises ProcessError where one ends before it could answer, or right afterwards.
    """
    ended = ended or threading.Event()
    children: list[_Child] = []
    with _counting_together(), _signals(ended):
        try:
            children += [_Child.start(factory, listening) for _ in range(n)]
            for child in children:
                child.wait_until_ready(ended)
            if not ended.is_set():
                on_listening(address_of(listening))
            while not ended.is_set():
                _replace_dead(children, factory, listening)
        finally:
            for child in children:
                child.process.terminate()
            for child in children:
                child.wait_until_ended()


def _replace_dead(children: list[_Child], factory: Factory, listening: socket.socket) -> None:
    """Wait a moment for one to die."""
    wait([child.process.sentinel for child in children], timeout=0.2)
    for place, child in enumerate(children):
        if child.process.is_alive():
            continue
        if time.monotonic() - child.began < LEAST_LIFE_S:
            raise ProcessError(
                f"a process of the server ended with status {child.process.exitcode} right "
                "after it began; start it with --processes 1 to see why"
            )
        if child.process.pid is not None:
            forget_process(child.process.pid)
        child.pipe.close()
        children[place] = _Child.start(factory, listening)


def _serve(factory: Factory, listening: socket.socket, pipe: Connection) -> None:
    """The child."""
    try:
        app = factory()
    except LorastyleError as error:
        pipe.send(str(error))
        return
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    with suppress(KeyboardInterrupt):  # Ctrl-C comes to all, once each has finished
        serve_app(app, listening, lambda _: pipe.send(_READY))


def _end_with_parent(pipe: Connection) -> None:
    _received(pipe)
    os.kill(os.getpid(), signal.SIGTERM)


def _received(pipe: Connection) -> str:
    """What is said, or that it never will be."""
    try:
        return str(pipe.recv())
    except (EOFError, OSError):
        return "a process of the server ended before it could answer; see what it said above"


@contextmanager
def _signals(ended: threading.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C set `ended`; only where signals arrive at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = {kind: signal.signal(kind, lambda *_: ended.set()) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextmanager
def _counting_together() -> Iterator[None]:
    """Where the processes' counts are kept, so that each can tell those of all."""
    with tempfile.TemporaryDirectory(prefix="lorastyle-counts-") as folder:
        os.environ[SHARED_COUNTS] = folder
        try:
            yield
        finally:
            os.environ.pop(SHARED_COUNTS, None)
