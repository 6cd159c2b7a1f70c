"""What a job does on SIGTERM: it ends as it would on Ctrl-C, and says so.

`ray job stop` sends SIGTERM, and SIGKILL 3 s later: time to let go of actors, not to finish work.
What is committed stays; the next attempt goes on from there.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 143
"""The exit status, as a shell has it after SIGTERM."""


class Stopped(KeyboardInterrupt):
    """SIGTERM has come. An interrupt, so that whatever cleans up after Ctrl-C does so now."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped in the main thread when SIGTERM comes; the session lets Ray not change that."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    # Once: a second signal must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped
