"""The head of a local cluster: its directory, ports and token, and the process that Ray starts.

Nothing of it is shared with another Ray on this machine, and no secret is on a command line.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from lorastyle.distributed import fake_nodes
from lorastyle.distributed.processes import MARK
from lorastyle.errors import ClusterError

HOST = "127.0.0.1"

# Ray puts Unix sockets some 65 characters below its directory; the kernel takes 107.
_LONGEST_DIRECTORY = 40

_LAST_WORDS = 400


@dataclass(frozen=True)
class Ports:
    """What a head listens on, besides ports that Ray picks itself."""

    gcs: int
    dashboard: int
    agent: int
    client: int


class Head:
    """Ray's head in `directory`, where its `autoscaling.json` lies.

    Its object store is where drivers put what they share. `variables` are added to our environment.
    """

    def __init__(
        self,
        directory: Path,
        ports: Ports,
        *,
        object_store_bytes: int,
        variables: Mapping[str, str],
    ) -> None:
        self.directory = directory
        self._log = directory / "head.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                _command(directory, ports, object_store_bytes),
                env=_environment(directory, variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its own session: Ctrl-C is for us, who then end it in order.
                start_new_session=True,
            )

    def wait_until_up(self, timeout_s: float) -> None:
        """The dashboard answers before the node is up, and refuses jobs until then."""
        deadline = time.monotonic() + timeout_s
        while "block forever" not in self._log.read_text():
            if self.has_ended or time.monotonic() > deadline:
                raise ClusterError(f"Ray did not start here; it said last: {self.last_words}")
            time.sleep(0.2)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def last_words(self) -> str:
        """The end of what it printed."""
        return " ".join(self._log.read_text().split())[-_LAST_WORDS:]

    def processes(self) -> list[psutil.Process]:
        """Its own, first, and all that it started; none once it has ended."""
        if self.has_ended:
            return []
        head = psutil.Process(self._process.pid)
        return [head, *head.children(recursive=True)]

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()


def new_directory(parent: Path | None) -> Path:
    """A directory for a cluster. Raises ClusterError where Ray's sockets would not fit."""
    directory = Path(tempfile.mkdtemp(prefix="lorastyle-", dir=parent)).resolve()
    if len(str(directory)) > _LONGEST_DIRECTORY:
        directory.rmdir()
        raise ClusterError(
            f"{directory} is too long for Ray's sockets ({len(str(directory))} characters, at most "
            f"{_LONGEST_DIRECTORY}); choose another with --dir or TMPDIR"
        )
    return directory


def write_token(path: Path) -> None:
    """A new secret in a file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))


def free_ports() -> Ports:
    """Ports that nothing listens on just now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(4)]
        for one in sockets:
            one.bind((HOST, 0))
        return Ports(*(int(one.getsockname()[1]) for one in sockets))


def _command(directory: Path, ports: Ports, object_store_bytes: int) -> list[str]:
    return [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        f"--node-ip-address={HOST}", f"--temp-dir={directory / 'ray'}",
        f"--autoscaling-config={directory / 'autoscaling.json'}",
        # No place for work: the nodes have it.
        "--num-cpus=0", "--num-gpus=0", f"--object-store-memory={object_store_bytes}",
        f"--port={ports.gcs}", f"--ray-client-server-port={ports.client}",
        "--include-dashboard=true", f"--dashboard-port={ports.dashboard}",
        f"--dashboard-agent-listen-port={ports.agent}",
        # Else the workers of two clusters take ports from the same range.
        "--min-worker-port=0", "--max-worker-port=0",
    ]  # fmt: skip


def _environment(directory: Path, variables: Mapping[str, str]) -> dict[str, str]:
    # The nodes' GPUs are numbers: a list of real ones would be found too short for them.
    without = ("RAY_ADDRESS", "RAY_AUTH_", "CUDA_VISIBLE_DEVICES")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(without)},
        **variables,
        **fake_nodes.variables(),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Jobs run `python`: this one.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        MARK: str(directory),
    }
