"""`LocalCluster`: a Ray cluster on one machine, whose nodes come and go by autoscaling.

For trying and testing what otherwise takes rented machines: nodes are processes, GPUs are
numbers. It has ports, a directory and a token of its own, and takes down what it started and
nothing else, also when its owner is killed (`keeper`).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from lorastyle.distributed import fake_nodes
from lorastyle.distributed.processes import MARK, kill, monitors, of_node
from lorastyle.errors import ClusterError

# Ray puts Unix sockets some 65 characters below its directory; the kernel takes 107.
_LONGEST_DIRECTORY = 40
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Node:
    """A live node: its id, what it offers (`{"CPU": 2.0, "GPU": 1.0}`), and if it is the head."""

    node_id: str
    resources: Mapping[str, float]
    is_head: bool


@dataclass(frozen=True)
class Shape:
    """At most `nodes` nodes, alike; each goes after `idle_s` without use."""

    nodes: int
    gpus_per_node: int
    cpus_per_node: int
    idle_s: float
    object_store_mib: int


class LocalCluster:
    """A cluster of a head without work and 0 to `nodes` workers, for a `with` block.

    A node goes after `idle_s` without use; its GPUs are fake.
    `directory` is where its own directory is made (default: the system's for temporary files) and
    then kept, with Ray's logs. `token=False` leaves it open to everybody on this machine.
    `environment` is added to that of all its processes.
    Raises ClusterError where Ray does not start within `start_s`.
    """

    def __init__(
        self,
        *,
        nodes: int = 3,
        gpus_per_node: int = 1,
        cpus_per_node: int = 1,
        idle_s: float = 10.0,
        object_store_mib: int = 256,
        directory: Path | None = None,
        token: bool = True,
        environment: Mapping[str, str] | None = None,
        start_s: float = 120.0,
    ) -> None:
        self.shape = Shape(nodes, gpus_per_node, cpus_per_node, idle_s, object_store_mib)
        self._keep = directory is not None
        self._extra = dict(environment or {})
        self._with_token = token
        self._start_s = start_s
        self._parent = directory
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the head; nodes start when work asks for them. Takes some 15 s."""
        self.directory = _new_directory(self._parent)
        self._gcs_port, self._jobs_port, self._agent_port, self._client_port = _free_ports(4)
        if self._with_token:
            _write_secret(self.token_path)
        config = fake_nodes.autoscaling(
            self.address,
            n_nodes=self.shape.nodes,
            resources={
                "CPU": self.shape.cpus_per_node,
                "GPU": self.shape.gpus_per_node,
                "object_store_memory": self.shape.object_store_mib * 2**20,
            },
            idle_s=self.shape.idle_s,
        )
        (self.directory / "autoscaling.json").write_text(json.dumps(config))
        with ExitStack() as undo:
            undo.callback(self.close)
            self._keeper = self._start_keeper()
            self._head = self._start_head()
            self._wait_until_up()
            undo.pop_all()
        return self

    @property
    def address(self) -> str:
        """HOST:PORT that drivers join (`RAY_ADDRESS`, `compute.address`)."""
        return f"{_HOST}:{self._gcs_port}"

    @property
    def jobs_url(self) -> str:
        """Where jobs are submitted and the dashboard is looked at."""
        return f"http://{_HOST}:{self._jobs_port}"

    @property
    def token_path(self) -> Path:
        """The file with the token, readable by its owner only."""
        return self.directory / "token"

    @property
    def client_variables(self) -> dict[str, str]:
        """What a client must have in its environment, before it imports ray."""
        if not self._with_token:
            return {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": self.address}
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_path),
            "RAY_ADDRESS": self.address,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The environment of this process, made that of a client of this cluster."""
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH_")
        }
        return {**inherited, **self._extra, **self.client_variables}

    def nodes(self) -> list[Node]:
        """The live nodes, head first. Raises ClusterError if the cluster is broken."""
        self.check()
        listed = self._ask("/api/v0/nodes?detail=true&limit=1000")["data"]["result"]["result"]
        nodes = [
            Node(one["node_id"], one["resources_total"] or {}, bool(one["is_head_node"]))
            for one in listed
            if one["state"] == "ALIVE"
        ]
        return sorted(nodes, key=lambda node: not node.is_head)

    def workers(self) -> list[Node]:
        """The live nodes that take work."""
        return [node for node in self.nodes() if not node.is_head]

    def wait_for_workers(self, n: int, timeout_s: float = 60.0) -> list[Node]:
        """Wait until exactly `n` nodes take work. Raises ClusterError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while len(found := self.workers()) != n:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the local cluster has {len(found)} nodes after {timeout_s:.0f} s, not {n}; "
                    f"its autoscaler's log is {self.logs / 'monitor.log'}"
                )
            time.sleep(0.3)
        return found

    def kill_node(self, node_id: str) -> None:
        """Let a node vanish as a machine does: SIGKILL to its raylet and all that it started.

        Raises ClusterError if there is no such node.
        """
        victims = of_node(str(self.directory), node_id)
        if not victims:
            raise ClusterError(f"the local cluster has no node {node_id!r}; nodes() lists them")
        kill(victims)

    def kill_head(self) -> None:
        """Let the head vanish as a machine does; what it had started itself goes along."""
        head = psutil.Process(self._head.pid)
        kill([head, *head.children(recursive=True)])

    def check(self) -> None:
        """Raise ClusterError if the head or the autoscaler has died: neither says so itself.

        Nothing restarts the autoscaler: the fake provider's list of nodes dies with it.
        """
        if self._keeper is None:
            raise ClusterError("the local cluster is not running; use it in a `with` block")
        if self._head.poll() is not None:
            raise ClusterError(f"the local cluster has ended by itself; it said last: {self._last}")
        if not monitors(str(self.directory)):
            raise ClusterError(
                "the local cluster's autoscaler has died, and no node comes or goes any more; "
                f"its log is {self.logs / 'monitor.log'}; start a new cluster"
            )

    @property
    def logs(self) -> Path:
        """Ray's logs."""
        return self.directory / "ray" / "session_latest" / "logs"

    def close(self) -> None:
        """End all processes of this cluster. Raises ClusterError if one cannot be ended."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        assert keeper.stdin is not None
        keeper.stdin.close()
        if keeper.wait() != 0:
            raise ClusterError(f"processes of the local cluster in {self.directory} did not end")
        self._head.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start_keeper(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lorastyle.distributed.keeper", str(self.directory)]
        return subprocess.Popen(
            [*command, *(["--keep"] if self._keep else [])],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _start_head(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
            "--num-cpus=0", "--num-gpus=0", f"--node-ip-address={_HOST}",
            f"--port={self._gcs_port}", f"--dashboard-port={self._jobs_port}",
            f"--dashboard-agent-listen-port={self._agent_port}",
            f"--ray-client-server-port={self._client_port}",
            # Else the workers of two clusters take ports from the same range.
            "--min-worker-port=0", "--max-worker-port=0",
            f"--object-store-memory={self.shape.object_store_mib * 2**20}",
            f"--temp-dir={self.directory / 'ray'}", "--include-dashboard=true",
            f"--autoscaling-config={self.directory / 'autoscaling.json'}",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            return subprocess.Popen(
                command,
                env=self._head_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its own session: Ctrl-C is for us, who then end it in order.
                start_new_session=True,
            )

    def _head_environment(self) -> dict[str, str]:
        # The nodes' GPUs are numbers: a list of real ones would be found too short for them.
        without = {"RAY_ADDRESS", "CUDA_VISIBLE_DEVICES"}
        return {
            **{key: value for key, value in self.environment.items() if key not in without},
            **fake_nodes.variables(),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Jobs run `python`: this one.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            MARK: str(self.directory),
        }

    @property
    def _log(self) -> Path:
        return self.directory / "head.log"

    @property
    def _last(self) -> str:
        return " ".join(self._log.read_text().split())[-400:]

    def _wait_until_up(self) -> None:
        """The dashboard answers before the node is up, and refuses jobs until then."""
        deadline = time.monotonic() + self._start_s
        while "block forever" not in self._log.read_text():
            if self._head.poll() is not None or time.monotonic() > deadline:
                raise ClusterError(f"Ray did not start on this machine; it said last: {self._last}")
            time.sleep(0.2)
        self.check()

    def _ask(self, path: str) -> Any:
        request = urllib.request.Request(self.jobs_url + path)
        if self._with_token:
            request.add_header("Authorization", f"Bearer {self.token_path.read_text()}")
        try:
            # No proxy: it is this machine that is asked.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=30) as answer:
                return json.load(answer)
        except (urllib.error.URLError, TimeoutError) as error:
            raise ClusterError(
                f"the local cluster's dashboard does not answer ({error})"
            ) from error


def _new_directory(parent: Path | None) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="lorastyle-", dir=parent)).resolve()
    if len(str(directory)) > _LONGEST_DIRECTORY:
        directory.rmdir()
        raise ClusterError(
            f"{directory} is too long for Ray's sockets ({len(str(directory))} characters, at most "
            f"{_LONGEST_DIRECTORY}); choose another with --dir or TMPDIR"
        )
    return directory


def _write_secret(path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))


def _free_ports(n: int) -> list[int]:
    """`n` different ports that nothing listens on just now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind((_HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
