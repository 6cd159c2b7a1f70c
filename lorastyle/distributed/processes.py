"""The processes of one local cluster: found by a mark in their environment, ended together.

Ray's own `ray stop` ends every Ray of the machine. A child inherits its parent's environment,
and keeps it when the parent dies, so one variable names all that a cluster started.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping

import psutil

MARK = "LORASTYLE_CLUSTER"
"""The variable; its value is the cluster's directory."""

NODE_ID = "RAY_OVERRIDE_NODE_ID_FOR_TESTING"
"""The variable that gives a node of the fake provider its id."""

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError, PermissionError)


def members(mark: str) -> set[psutil.Process]:
    """All live processes of the cluster with that mark, workers and jobs included.

    Ray's workers write their title over their environment, so the mark alone
    would miss them: they are found as children, and by their session.
    """
    marked = {process for process in psutil.process_iter() if _environ(process).get(MARK) == mark}
    sessions = {session for process in marked if (session := _session(process)) is not None}
    sessions -= {os.getsid(0)}
    found = marked | {one for one in psutil.process_iter() if _session(one) in sessions}
    return {one for one in found | set(_descendants(found)) if _alive(one)}


def of_node(mark: str, node_id: str) -> list[psutil.Process]:
    """The raylet of one node, first, and everything that it started; empty if it is gone."""
    for process in psutil.process_iter():
        environ = _environ(process)
        if environ.get(MARK) == mark and environ.get(NODE_ID) == node_id and _is_raylet(process):
            return [process, *_descendants([process])]
    return []


def monitors(mark: str) -> list[psutil.Process]:
    """The autoscaler: one process, or none if it has died."""
    return [one for one in members(mark) if any(map(_is_autoscaler, _cmdline(one)))]


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, in order; what is gone already is passed over."""
    for process in processes:
        with contextlib.suppress(*_GONE):
            process.kill()


def end(mark: str, patience_s: float = 2.0, timeout_s: float = 30.0) -> bool:
    """End all processes of a cluster, and only those; True if none is left.

    They get SIGTERM, and SIGKILL after `patience_s`. The autoscaler is killed
    first, and the search repeated: until then it may start another node.
    """
    kill(monitors(mark))
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


def _descendants(processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        with contextlib.suppress(*_GONE):
            yield from process.children(recursive=True)


def _environ(process: psutil.Process) -> Mapping[str, str]:
    try:
        return dict(process.environ())
    except (*_GONE, OSError):
        return {}


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except _GONE:
        return []


def _is_autoscaler(argument: str) -> bool:
    return "autoscaler" in argument and argument.endswith("monitor.py")


def _is_raylet(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "raylet")
    except _GONE:
        return False


def _alive(process: psutil.Process) -> bool:
    """A zombie waits only to be noticed by its parent."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except _GONE:
        return False
