from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Head:
    """A Ray head that accepts jobs, and how to talk to it."""

    jobs_url: str
    environment: dict[str, str]

    def submit(self, *entrypoint: str | Path) -> subprocess.CompletedProcess[str]:
        """`ray job submit`, from the repository's root; waits for the job's end."""
        ray = Path(sys.executable).with_name("ray")
        environment = "--runtime-env=cluster/runtime_env.yaml"
        command = [ray, "job", "submit", "--address", self.jobs_url]
        return subprocess.run(
            [*command, environment, "--", sys.executable, *entrypoint],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head of our own: ports, home and directory that nothing else uses."""
    # Not pytest's directory: Ray's sockets lie deep, and the kernel takes 107 characters.
    place = Path(tempfile.mkdtemp(prefix="lorastyle-head-"))
    gcs, dashboard, agent, client = _free_ports(4)
    environment = {
        **{key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
        "HOME": str(place),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        Path(sys.executable).with_name("ray"), "start", "--head", "--block",
        "--num-cpus=2", "--node-ip-address=127.0.0.1", f"--temp-dir={place / 'ray'}",
        f"--port={gcs}", f"--dashboard-port={dashboard}", "--include-dashboard=true",
        f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
    ]  # fmt: skip
    log = place / "head.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        _wait_until_it_blocks(process, log)
        yield Head(f"http://127.0.0.1:{dashboard}", environment)
    finally:
        _end(process)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An experiment of seconds on the shipped miniature: 12 adapters of 2 steps."""
    values = {
        "corpus": {"n_artists": 2, "works_per_artist": 20, "min_works": 10},
        "protocol": {
            "train": 2, "calibration": 1, "val": 1, "test": 0,
            "query_calibration": 1, "query_val": 1, "query_test": 1,
            "images_per_adapter": 4, "images_per_query": 2,
            "reserved_val": 5, "reserved_test": 5, "max_overlap": 0.75,
        },
        "training": {"rank": 2, "alpha": 1, "n_steps": 2, "batch_size": 1, "stack": 6},
        "embedding": {"max_components": 3},
        "evaluation": {"n_kmeans_seeds": 2, "features": ["pixel_mean"]},
    }  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _free_ports(n: int) -> list[int]:
    with closing(socket.socket()) as first:
        sockets = [first, *(socket.socket() for _ in range(n - 1))]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [int(one.getsockname()[1]) for one in sockets]
        for one in sockets:
            one.close()
    return ports


def _wait_until_it_blocks(
    process: subprocess.Popen[bytes], log: Path, timeout_s: float = 120
) -> None:
    """The dashboard answers long before the node is up, and refuses jobs until then."""
    deadline = time.monotonic() + timeout_s
    while "block forever" not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the processes of this head, and no others: `ray stop` would end every Ray."""
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for one in alive:
            one.kill()
    process.wait()
