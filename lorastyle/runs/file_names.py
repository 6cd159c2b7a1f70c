"""File names for things that strangers have named."""

from __future__ import annotations

import hashlib

MAX_BYTES = 200
"""Of a name; file systems take 255 with the ending."""


def safe_name(name: str) -> str:
    """A file name that leads nowhere else, another one for every name.

    Letters, digits, `-`, `_` and `.` stay. A name that had to be changed ends in four bytes of
    its SHA-256, so that two of them do not meet.

    >>> safe_name("anna-03"), safe_name("../anna 3")
    ('anna-03', '_anna_3-49c80fac')
    """
    kept = "".join(one if one.isalnum() or one in "-_." else "_" for one in name).lstrip(".")
    while len(kept.encode()) > MAX_BYTES:
        kept = kept[:-1]
    if kept and kept == name:
        return name
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept or 'adapter'}-{mark}"
