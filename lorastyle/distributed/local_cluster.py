"""`LocalCluster`: a Ray cluster on one machine, whose nodes come and go by autoscaling.

For trying and testing what otherwise takes rented machines: nodes are processes, GPUs are
numbers. It has ports, a directory and a token of its own, and takes down what it started and
nothing else, also when its owner is killed (`keeper`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lorastyle.distributed import fake_nodes
from lorastyle.distributed.local_head import HOST, Head, free_ports, new_directory, write_token
from lorastyle.distributed.processes import alive, autoscaler, kill_and_wait, of_node
from lorastyle.errors import ClusterError


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
        self._parent = directory
        self._with_token = token
        self._extra = dict(environment or {})
        self._start_s = start_s
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the head; nodes start when work asks for them. Takes some 10 s."""
        self.directory = new_directory(self._parent)
        self._ports = free_ports()
        if self._with_token:
            write_token(self.token_path)
        (self.directory / "autoscaling.json").write_text(json.dumps(self._autoscaling()))
        with ExitStack() as undo:
            undo.callback(self.close)
            self._keeper = _start_keeper(self.directory, keep=self._parent is not None)
            self._head = Head(
                self.directory,
                self._ports,
                object_store_bytes=self.shape.object_store_mib * 2**20,
                variables={**self._extra, **self.client_variables},
            )
            self._head.wait_until_up(self._start_s)
            self._autoscaler = autoscaler(str(self.directory))
            self.check()
            undo.pop_all()
        return self

    @property
    def address(self) -> str:
        """HOST:PORT that drivers join (`RAY_ADDRESS`, `compute.address`)."""
        return f"{HOST}:{self._ports.gcs}"

    @property
    def jobs_url(self) -> str:
        """Where jobs are submitted and the dashboard is looked at."""
        return f"http://{HOST}:{self._ports.dashboard}"

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

    @property
    def logs(self) -> Path:
        """The head's logs; a node's are in `n1`, `n2`, ... of `directory`."""
        return self.directory / "ray" / "session_latest" / "logs"

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

        Ray takes up to 15 s to notice, and may send work there until then.
        Raises ClusterError if there is no such node.
        """
        victims = of_node(str(self.directory), node_id)
        if not victims:
            raise ClusterError(f"the local cluster has no node {node_id!r}; nodes() lists them")
        # The raylet first: it starts nothing more.
        kill_and_wait(victims)

    def kill_head(self) -> None:
        """Let the head vanish as a machine does; the nodes that it started go along."""
        kill_and_wait(self._head.processes())

    def check(self) -> None:
        """Raise ClusterError if the head or the autoscaler has died.

        Nothing restarts the autoscaler: the fake provider's list of nodes dies with it.
        """
        if self._keeper is None:
            raise ClusterError("the local cluster is not running; use it in a `with` block")
        if self._head.has_ended:
            raise ClusterError(
                f"the local cluster has ended by itself; it said last: {self._head.last_words}"
            )
        if self._autoscaler is None or not alive(self._autoscaler):
            raise ClusterError(
                "the local cluster's autoscaler (monitor) has died, and no node comes or goes any "
                "more; start a new cluster, with --dir to keep Ray's logs"
            )

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

    def _autoscaling(self) -> dict[str, Any]:
        return fake_nodes.autoscaling(
            self.address,
            n_nodes=self.shape.nodes,
            resources={
                "CPU": self.shape.cpus_per_node,
                "GPU": self.shape.gpus_per_node,
                "object_store_memory": self.shape.object_store_mib * 2**20,
            },
            idle_s=self.shape.idle_s,
        )

    def _ask(self, path: str) -> Any:
        request = urllib.request.Request(self.jobs_url + path)
        if self._with_token:
            request.add_header("Authorization", f"Bearer {self.token_path.read_text()}")
        # No proxy: it is this machine that is asked.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return json.load(answer)
        except (urllib.error.URLError, TimeoutError) as error:
            raise ClusterError(f"the cluster's dashboard does not answer ({error})") from error


def _start_keeper(directory: Path, *, keep: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lorastyle.distributed.keeper", str(directory)]
    return subprocess.Popen(
        [*command, *(["--keep"] if keep else [])],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
