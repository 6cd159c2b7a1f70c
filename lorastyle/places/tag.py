"""A version of a file: what a conditional write is conditional on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tag:
    """One version of one file. Only equality means anything.

    In a directory: inode, time of writing to the nanosecond, size. In a bucket: what the
    server calls it, which on S3 is a hash of its bytes. A file that must never look like
    an earlier version of itself therefore has something unique in it.
    """

    name: str
    version: str | None = None
