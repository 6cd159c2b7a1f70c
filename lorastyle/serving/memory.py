"""The memory of a server: what was freed is kept for the next upload, what was read for good."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MAPPED_FROM = 32 << 20
"""Bytes of a block from which the system gives it and takes it back: the most that glibc takes."""
KEPT = 128 << 20
"""Bytes that may stay free at the end of the heap."""


def keep_freed_memory() -> None:
    """Of this process from now on, on glibc; elsewhere nothing happens.

    glibc hands blocks of 128 KiB back to the system at once, which clears them when they are
    asked for again: for each piece of an upload. Receiving 24 MB takes 7 ms of a core in place
    of 22.
    """
    with suppress(OSError, AttributeError):
        adjust = ctypes.CDLL(None).mallopt
        adjust(M_MMAP_THRESHOLD, MAPPED_FROM)
        adjust(M_TRIM_THRESHOLD, KEPT)


def keep_what_is_there() -> None:
    """Objects that are there now stay until the end: do not look through them for what can go."""
    gc.collect()
    gc.freeze()
