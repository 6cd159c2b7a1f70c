"""BLAS on one thread, so that a product is the same bits however many cores there are.

With more threads OpenBLAS cuts a product up in another way, and the parts meet other
kernels, whose sums run in another order: on a processor with AVX-512 two threads differ
from one in the last bit, on others they may. Cores are used by several tasks instead.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_n_inside = 0
_limits: threadpool_limits | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One BLAS thread a product, until the last of those who are inside has left.

    The limit is the whole process's. Were each thread to set and restore it by itself,
    the first to leave would lift it for the others, and the last would leave it on.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _n_inside, _limits
    with _lock:
        if _n_inside == 0:
            _limits = threadpool_limits(1, user_api="blas")
        _n_inside += 1


def _leave() -> None:
    global _n_inside, _limits
    with _lock:
        _n_inside -= 1
        if _n_inside == 0 and _limits is not None:
            _limits.restore_original_limits()
            _limits = None
