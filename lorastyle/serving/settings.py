"""What a server allows: sizes, times, how much at once, and who may ask."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from lorastyle.adapters.formats.opening import Limits
from lorastyle.errors import ConfigError

EXACT_BYTES = 2**26
"""Fit adapters of more weights than this are compared by sketches: an exact search of twice as
much takes seconds."""
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class ServingSettings:
    """Limits of a server.

    A stranger's file is read with `limits`, which bound its work beforehand: a thread cannot be
    stopped, so `work_s` only says when nobody waits for it any longer.
    """

    max_upload_bytes: int = 256 << 20
    """Of a request, all its files together."""
    memory_bytes: int = 64 << 20
    """Of a request, that are kept in memory: a LoRA of 24 MB is there sooner than on disk. Larger
    files go to disk, so that there is room for all uploads at once."""
    receive_s: float = 60.0
    """Until a request's body must be there."""
    work_s: float = 60.0
    """Until the answer must be there, once the body is."""
    n_workers: int = 2
    """Files that are worked on at the same time."""
    n_at_once: int = 16
    """Uploads that are received, waiting or worked on; others are told to come again."""
    token: str | None = None
    """Asked for as `Authorization: Bearer TOKEN` where there is one."""
    hosts: tuple[str, ...] = ()
    """Names by which the server may be addressed; empty: any. On loopback a page of somebody
    else's may give itself our address, and be told by its name alone."""
    exact_bytes: int = EXACT_BYTES

    @property
    def limits(self) -> Limits:
        """What a file may ask for: seconds of work, and 2 GiB at the worst."""
        return Limits(
            file_bytes=2 * self.max_upload_bytes,
            header_bytes=4 << 20,
            factor_numbers=1 << 29,
            operations=3e11,
        )


def workers_for(n_processes: int) -> int:
    """Of each process: together one a core."""
    return max(1, (os.cpu_count() or 1) // n_processes)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def hosts_for(host: str, names: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names of a server that listens on `host`; of one that others can reach, any."""
    if names:
        return names
    return (*LOOPBACK_NAMES, host) if is_loopback(host) else ()


def check_access(host: str, token: str | None) -> None:
    """Raises ConfigError where a server would be open to others, or a token is too short."""
    if token is None:
        if not is_loopback(host):
            raise ConfigError(
                f"{host} can be reached from other machines, and no token is set: put one into "
                "LORASTYLE_TOKEN or name a file with --token-file, or listen on 127.0.0.1"
            )
        return
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"the token has {len(token)} characters; it must be 16 at least, printable ASCII "
            "without spaces, such as `openssl rand -hex 16` makes"
        )
