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
INTERRUPTED = 130
"""Exit statuses, as a shell has them after SIGTERM and after Ctrl-C."""


class Stopped(Exception):  # noqa: N818 - no error
    """SIGTERM came, and the main thread has cleaned up."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Interrupt the block when SIGTERM comes, and then raise Stopped.

    To be entered before Ray starts; our `Session` takes care that Ray leaves the signal alone.
    """
    came = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Once: a second signal must not interrupt the cleaning up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    # Not an exception of our own: Ray turns whatever interrupts its waiting into this one.
    except KeyboardInterrupt:
        if came:
            raise Stopped from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
