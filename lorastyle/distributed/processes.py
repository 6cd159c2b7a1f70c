"""The processes of one local cluster: found by a mark in their environment, ended together.

Ray's own `ray stop` ends every Ray of the machine. A child inherits its parent's environment,
and keeps it when the parent dies, so one variable names all that a cluster started.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import psutil

MARK = "LORASTYLE_CLUSTER"
"""The variable; its value is the cluster's directory."""

NODE_ID = "RAY_OVERRIDE_NODE_ID_FOR_TESTING"
"""The variable that gives a node of the fake provider its id."""

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, OSError)

T = TypeVar("T")


def members(mark: str) -> set[psutil.Process]:
    """All live processes of the cluster with that mark, workers and jobs included.

    Ray's workers write their title over their environment, so the mark alone
    would miss them: they are found by their session, and as children.
    """
    everyone = [one for one in psutil.process_iter() if alive(one)]
    sessions = {_session(one) for one in everyone if _environ(one).get(MARK) == mark}
    sessions -= {None, os.getsid(0)}
    found = {
        one.pid for one in everyone if _session(one) in sessions or _environ(one).get(MARK) == mark
    }
    parents = {one.pid: _asked(one.ppid, 0) for one in everyone}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {one for one in everyone if one.pid in found}


def of_node(mark: str, node_id: str) -> list[psutil.Process]:
    """The raylet of one node, first, and everything that it started; empty if it is gone."""
    for one in psutil.process_iter():
        if _asked(one.name, "") != "raylet" or not alive(one):
            continue
        environ = _environ(one)
        if environ.get(MARK) == mark and environ.get(NODE_ID) == node_id:
            return [one, *_children(one)]
    return []


def autoscaler(mark: str) -> psutil.Process | None:
    """The process that starts and ends the cluster's nodes; None if it has died."""
    for one in psutil.process_iter():
        if not any(map(_is_autoscaler, _asked(one.cmdline, []))) or not alive(one):
            continue
        if _environ(one).get(MARK) == mark:
            return one
    return None


def alive(process: psutil.Process) -> bool:
    """True unless it has ended; a zombie waits only to be noticed by its parent."""
    status = _asked(process.status, psutil.STATUS_ZOMBIE)
    return bool(process.is_running() and status != psutil.STATUS_ZOMBIE)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, in order; what is gone already is passed over."""
    for process in processes:
        with contextlib.suppress(*_GONE):
            process.kill()


def kill_and_wait(processes: Sequence[psutil.Process], timeout_s: float = 5.0) -> None:
    """The same, until none of them runs any more: the system takes a moment, a busy one longer."""
    kill(processes)
    deadline = time.monotonic() + timeout_s
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)


def end(mark: str, patience_s: float = 2.0, timeout_s: float = 30.0) -> bool:
    """End all processes of a cluster, and only those; True if none is left.

    They get SIGTERM, and SIGKILL after `patience_s`. The autoscaler is killed
    first, and the search repeated: until then it may start another node.
    """
    if (starter := autoscaler(mark)) is not None:
        kill([starter])
    for process in (found := members(mark)):
        with contextlib.suppress(*_GONE):
            process.terminate()
    psutil.wait_procs(found, timeout=patience_s)
    deadline = time.monotonic() + timeout_s
    while left := members(mark):
        if time.monotonic() > deadline:
            return False
        kill(left)
        psutil.wait_procs(left, timeout=1.0)
    return True


def _children(process: psutil.Process) -> list[psutil.Process]:
    return _asked(lambda: list(process.children(recursive=True)), [])


def _is_autoscaler(argument: str) -> bool:
    return "autoscaler" in argument and argument.endswith("monitor.py")


def _environ(process: psutil.Process) -> Mapping[str, str]:
    return _asked(lambda: dict(process.environ()), {})


def _session(process: psutil.Process) -> int | None:
    return _asked(lambda: os.getsid(process.pid), None)


def _asked(question: Callable[[], T], otherwise: T) -> T:
    """The answer, or `otherwise` where the process is gone or another user's."""
    try:
        return question()
    except _GONE:
        return otherwise
