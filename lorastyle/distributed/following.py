"""Following a job to its end: every line of its log once, over however many connections.

Ray's stream of a log begins at the beginning each time, and its end says nothing about the job:
connections drop, heads restart. Only the job's state, asked for beside it, ends the following.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from lorastyle.distributed.jobs_client import Attempt, Jobs
from lorastyle.errors import ClusterError

POLL_S = 1.0
PATIENCE_S = 120.0
"""How long a cluster may be silent before we give up on it: a head restarts in less."""


class Log:
    """A log that arrives in pieces, some of them again."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write
        self._n_written = 0

    def take(self, text: str, start: int) -> None:
        """Write the part of `text`, which begins at character `start`, that is new.

        >>> log = Log(print)
        >>> log.take("one", 0), log.take("one two", 0), log.take("two", 4)
        one
         two
        (None, None, None)
        """
        new = text[max(0, self._n_written - start) :]
        if new:
            self._write(new)
            self._n_written += len(new)


def follow(
    jobs: Jobs,
    submission_id: str,
    write: Callable[[str], Any],
    *,
    timeout_s: float | None = None,
    patience_s: float = PATIENCE_S,
) -> Attempt:
    """Write an attempt's log until it has ended, or `timeout_s` have passed; how it is then.

    Raises ClusterError if the cluster has not told of it for `patience_s`.
    """
    return asyncio.run(_follow(jobs, submission_id, Log(write), timeout_s, patience_s))


async def _follow(
    jobs: Jobs, submission_id: str, log: Log, timeout_s: float | None, patience_s: float
) -> Attempt:
    began = heard = time.monotonic()
    stream = asyncio.create_task(_stream(jobs, submission_id, log))
    try:
        while True:
            await asyncio.wait({stream}, timeout=POLL_S)
            if stream.done():
                await asyncio.sleep(POLL_S)
            try:
                attempt = await asyncio.to_thread(jobs.attempt, submission_id)
                heard = time.monotonic()
            except ClusterError:
                # A head that restarts is unreachable first, and then confused.
                if time.monotonic() - heard > patience_s:
                    raise
                continue
            if attempt.ended or (timeout_s and time.monotonic() - began > timeout_s):
                break
            if stream.done():
                stream = asyncio.create_task(_stream(jobs, submission_id, log))
    finally:
        stream.cancel()
        await asyncio.wait({stream})
    # A log is lost with its node; the job's end is known all the same.
    with contextlib.suppress(ClusterError):
        log.take(await asyncio.to_thread(jobs.log, submission_id), 0)
    return attempt


async def _stream(jobs: Jobs, submission_id: str, log: Log) -> None:
    """One connection; ends without a word when it drops, for whatever reason."""
    n_seen = 0
    with contextlib.suppress(Exception):
        async for text in jobs.tail(submission_id):
            log.take(text, n_seen)
            n_seen += len(text)
