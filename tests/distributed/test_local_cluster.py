"""A cluster on one machine: its nodes come and go, and nothing of it outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lorastyle.distributed.local_cluster import LocalCluster
from lorastyle.distributed.processes import autoscaler, end, members
from lorastyle.errors import ClusterError

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(180)]

ACTORS = """
import sys, time
import ray
ray.init(log_to_driver=False)
@ray.remote(num_gpus=1)
class Actor:
    def node(self):
        return ray.get_runtime_context().get_node_id()
actors = [Actor.remote() for _ in range(int(sys.argv[1]))]
print("nodes:", *ray.get([actor.node.remote() for actor in actors]), flush=True)
sys.stdin.read()
"""
"""A driver with actors that want a GPU each, until its stdin is closed."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    environment = {
        "HOME": str(tmp_path_factory.mktemp("home")),
        "OMP_NUM_THREADS": "1",
        # A silent node is given up after 3 s; Ray's own patience is 15 s.
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
    }
    with LocalCluster(nodes=2, idle_s=2, environment=environment) as cluster:
        yield cluster


@contextmanager
def driver(cluster: LocalCluster, n_actors: int) -> Iterator[set[str]]:
    """A program with actors; the nodes that they are on."""
    process = subprocess.Popen(
        [sys.executable, "-c", ACTORS, str(n_actors)],
        env=cluster.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        # Ray tells of dead nodes on stdout, too.
        line = next(line for line in process.stdout if line.startswith("nodes:"))
        yield set(line.split()[1:])
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def status(cluster: LocalCluster, token: str | None) -> int:
    """What the job server answers to a request with that token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{cluster.jobs_url}/api/jobs/", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_nodes_appear_for_work_and_go_when_it_is_done(cluster: LocalCluster) -> None:
    assert [node.is_head for node in cluster.nodes()] == [True]
    assert not cluster.nodes()[0].resources.get("CPU")
    with driver(cluster, 2) as used:
        nodes = cluster.workers()
        assert used == {node.node_id for node in nodes} and len(used) == 2
        assert {node.resources["GPU"] for node in nodes} == {1.0}
    cluster.wait_for_workers(0)


def test_a_killed_node_is_gone_with_its_processes_and_another_takes_its_place(
    cluster: LocalCluster,
) -> None:
    with driver(cluster, 1) as used:
        (victim,) = used
        before = members(str(cluster.directory))
        cluster.kill_node(victim)
        assert len(before - members(str(cluster.directory))) >= 3  # raylet, agents, the actor
        with pytest.raises(ClusterError, match="has no node"):
            cluster.kill_node(victim)
    # Until Ray has noticed, it would still send actors there.
    wait_for(lambda: victim not in {node.node_id for node in cluster.workers()})
    with driver(cluster, 1) as used:
        assert used and victim not in used


def test_only_the_clusters_token_opens_the_job_server(cluster: LocalCluster) -> None:
    assert cluster.token_path.stat().st_mode & 0o777 == 0o600
    assert status(cluster, None) == 401
    assert status(cluster, "0" * 64) == 403
    assert status(cluster, cluster.token_path.read_text()) == 200


def test_nothing_of_a_cluster_has_its_token_on_a_command_line(cluster: LocalCluster) -> None:
    token = cluster.token_path.read_text()
    assert not [one for one in members(str(cluster.directory)) if token in str(one.cmdline())]


def test_a_directory_that_is_too_long_is_refused_before_anything_starts(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 10)
    place.mkdir()
    with pytest.raises(ClusterError, match="too long for Ray's sockets"):
        LocalCluster(directory=place).start()
    assert not list(place.iterdir())


@contextmanager
def called(home: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`lorastyle cluster local --json` in a process of its own, and what it says when it is up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lorastyle.cli.main", "cluster", "local", "--no-auth", "--json"],
        env={**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    said = {}
    try:
        said = json.loads(process.stdout.readline())
        yield process, said
    finally:
        process.kill()
        process.communicate()
        if said:
            end(directory(said))


def directory(said: dict[str, Any]) -> str:
    return str(Path(said["logs"]).parents[2])


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_however_the_command_ends_nothing_of_the_cluster_is_left(
    number: int, expected: int, tmp_path: Path
) -> None:
    with called(tmp_path) as (process, said):
        place = directory(said)
        assert said["address"] and said["environment"]["RAY_AUTH_MODE"] == "disabled"
        assert len(members(place)) > 5
        process.send_signal(number)
        assert process.wait(timeout=30) == expected
        wait_for(lambda: not members(place) and not Path(place).exists())
    assert not (tmp_path / ".ray").exists(), "a token was written into the home directory"


def test_an_autoscaler_that_has_died_ends_the_cluster_aloud(tmp_path: Path) -> None:
    with called(tmp_path) as (process, said):
        monitor = autoscaler(directory(said))
        assert monitor is not None
        monitor.kill()
        assert process.wait(timeout=30) == 1
        assert process.stderr is not None
        error = process.stderr.read()
        assert error.count("error:") == 1 and "monitor" in error
        assert not members(directory(said))


def wait_for(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)
