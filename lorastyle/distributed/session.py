"""`Session`: a Ray that is started when first needed and stopped by whoever started it.

Inside a job, or with an address, it joins that cluster and leaves it as it was.
Otherwise it starts a Ray of its own on this machine, with its own ports, directory
and token, gone with the process. Nothing here ever stops a Ray
that something else started.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lorastyle.errors import LorastyleError, StageError

# Ray puts Unix sockets some 65 characters below its directory, and the kernel
# takes 107 at most: a longer TMPDIR would fail at start with an obscure message.
_LONGEST_TEMP_DIR = 40

CONNECT_TIMEOUT_S = 5.0
_JOB_CONFIG_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the entry point of a job."""


class Session:
    """A connection to Ray, made on the first `start` and undone on leaving the block.

    `address` is a cluster's; None takes `RAY_ADDRESS` (a job's Ray sets it), or
    starts a local Ray with `num_cpus` cores (None: all this process may use).
    """

    def __init__(self, address: str | None = None, num_cpus: int | None = None) -> None:
        self.address = address
        self.num_cpus = num_cpus
        self._connected = False
        self._temp_dir: Path | None = None

    @property
    def joins_a_cluster(self) -> bool:
        """True where `start` joins a Ray that runs already, False where it starts its own."""
        return bool(self.address or os.environ.get("RAY_ADDRESS"))

    def start(self) -> Self:
        """Connect unless connected. Raises StageError where the cluster does not answer."""
        if self._connected:
            return self
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address is None:
            _use_a_token()
        import ray

        if ray.is_initialized():  # the caller's: use it, and leave it
            return self
        with _signals_kept():
            if address is None:
                self._start_local(ray)
            else:
                _join(ray, address)
        self._connected = True
        return self

    def _start_local(self, ray: Any) -> None:
        temp_dir = Path(tempfile.mkdtemp(prefix="lorastyle-ray-"))
        if len(str(temp_dir)) <= _LONGEST_TEMP_DIR:
            self._temp_dir = temp_dir
        else:
            temp_dir.rmdir()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # `address="local"` because plain init joins a cluster that happens to run here.
        ray.init(
            address="local",
            num_cpus=self.num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=str(self._temp_dir) if self._temp_dir else None,
        )

    def close(self, *, keep_logs: bool = False) -> None:
        """Disconnect; stop the Ray that this session started, and only that."""
        if not self._connected:
            return
        import ray

        ray.shutdown()
        self._connected = False
        if self._temp_dir is not None and not keep_logs:
            shutil.rmtree(self._temp_dir, ignore_errors=True)
        self._temp_dir = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What we raise ourselves explains itself, and so does an interruption; for anything else
        # Ray's logs may be wanted.
        unexplained = isinstance(error, Exception) and not isinstance(error, LorastyleError)
        self.close(keep_logs=unexplained)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep what the program does on SIGTERM, if it does anything: `ray.init` would replace it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _join(ray: Any, address: str) -> None:
    advice = "correct compute.address, or unset it to use this machine alone"
    if not _answers(address):
        raise StageError(f"no Ray cluster answers at {address!r}; {advice}")
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StageError(
            f"cannot join the Ray cluster at {address!r} ({reason}); {advice}"
        ) from error


def _answers(address: str) -> bool:
    """True unless `address` is HOST:PORT and nothing listens there.

    Asked first, because Ray ends the whole process when it finds nothing.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _use_a_token() -> None:
    """Give the local Ray a token of its own, so that no other user can run code in it.

    Ray reads both variables when it is first imported, and otherwise writes a
    token into the home directory. An explicit choice of the user's stands.
    """
    if "ray" in sys.modules or "RAY_AUTH_MODE" in os.environ:
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def submission_id() -> str | None:
    """The id under which this process was submitted as a job, or None where it was not."""
    try:
        config = json.loads(os.environ[_JOB_CONFIG_VARIABLE])
        return str(config["metadata"]["job_submission_id"])
    except (KeyError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def opened(session: Session | None, address: str | None = None) -> Iterator[Session]:
    """The caller's session, started; or one of our own for the length of the block."""
    if session is not None:
        yield session.start()
        return
    with Session(address) as own:
        yield own.start()
