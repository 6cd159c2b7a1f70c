"""BLAS on one thread, so that a product is the same bits however many cores there are.

With more threads OpenBLAS cuts a product up in another way, and the parts meet other
kernels, whose sums run in another order: on a processor with AVX-512 two threads differ
from one in the last bits, on others they may. Cores are used by several tasks instead.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

Limits = list[tuple[Any, int]]
"""BLAS libraries, as threadpoolctl knows them, with numbers of threads."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One BLAS thread a product for this thread, and meanwhile for most BLAS for all others.

    Any number of threads may be inside. Most libraries have one limit for the process:
    were each thread to set and restore it by itself, as `threadpool_limits` does, the
    first to leave would lift it for the others, and the last would leave it on.
    """
    own = _limit.enter()
    try:
        yield
    finally:
        _limit.leave(own)


class _Limit:
    """The process's limit, on while anybody is inside, and each thread's where it has one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._before: Limits = []
        self._by_thread: list[Any] = []

    def enter(self) -> Limits:
        """Returns what this thread has to restore when it leaves."""
        with self._lock:
            if self._n_inside == 0:
                found = ThreadpoolController().select(user_api="blas").lib_controllers
                self._by_thread = [library for library in found if _is_by_thread(library)]
                shared = [library for library in found if not _is_by_thread(library)]
                self._before = _to_one(shared)
            self._n_inside += 1
            return _to_one(self._by_thread)

    def leave(self, own: Limits) -> None:
        with self._lock:
            _set(own)
            self._n_inside -= 1
            if self._n_inside == 0:
                _set(self._before)


_limit = _Limit()


def _is_by_thread(library: Any) -> bool:
    """Whether threadpoolctl sets this library's limit for the calling thread alone."""
    return library.internal_api == "mkl" or getattr(library, "threading_layer", "") == "openmp"


def _to_one(libraries: list[Any]) -> Limits:
    """Limit to one thread; returns what was."""
    before = [(library, int(library.get_num_threads())) for library in libraries]
    _set([(library, 1) for library in libraries])
    return before


def _set(limits: Limits) -> None:
    for library, n_threads in limits:
        # From 3.8 on threadpoolctl silently ignores all threads but the first that has set a
        # limit of OpenBLAS, while it lives. Here the last to leave is mostly another one.
        release = getattr(library, "clear_controlling_thread", None)
        if release is not None:
            release(force=True)
        library.set_num_threads(n_threads)
        if release is not None:
            release(force=True)
