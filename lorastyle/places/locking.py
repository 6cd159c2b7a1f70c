"""A lock between all processes that write in a directory, held for microseconds."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorastyle.errors import StoreError

LOCK = ".lock"
LIMIT_S = 30.0
LONGEST_PAUSE_S = 0.02
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Nobody else is in such a block for this directory; False where the file system has no locks.

    The system lets go of the lock of a process that dies. One that is stopped keeps it:
    after `LIMIT_S` the others raise StoreError.
    """
    path = directory / LOCK
    # Opened each time: the lock belongs to the opening, so that threads exclude each other too.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield _taken(file, path)
    finally:
        os.close(file)


def _taken(file: int, path: Path) -> bool:
    end = time.monotonic() + LIMIT_S
    pause_s = 0.0005
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                raise StoreError(
                    f"{path} has been locked by another process for {LIMIT_S:.0f} s; "
                    "find a writer that is stopped and end it"
                ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return False
        time.sleep(random.uniform(0, pause_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
