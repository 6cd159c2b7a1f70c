from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lorastyle.distributed.local_cluster import LocalCluster

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Submitter:
    """`lorastyle submit` for a cluster, called from the root of a checkout."""

    cluster: LocalCluster
    checkout: Path

    def start(
        self, *arguments: str | Path, url: str | None = None, **environment: str | None
    ) -> subprocess.Popen[str]:
        """Call it, and leave it running; None takes a variable out of its environment."""
        changed: Mapping[str, str | None] = {
            **self.cluster.environment,
            "RAY_API_SERVER_ADDRESS": url or self.cluster.jobs_url,
            **environment,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "lorastyle.cli.main", "submit", *arguments],
            cwd=self.checkout,
            env={key: value for key, value in changed.items() if value is not None},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, *arguments: str | Path, url: str | None = None, **environment: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Call it, and wait for its end."""
        process = self.start(*arguments, url=url, **environment)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster with a token, and a home of its own."""
    environment = {"HOME": str(tmp_path_factory.mktemp("home")), "OMP_NUM_THREADS": "1"}
    with LocalCluster(nodes=2, gpus_per_node=0, idle_s=20, environment=environment) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a job needs of this checkout, and a config beside it."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("lorastyle", "jobs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=ignored)
    shutil.copy(REPOSITORY / ".rayignore", checkout)
    write_config(checkout)
    return checkout


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An experiment of seconds on the shipped miniature: 12 adapters of 2 steps."""
    return write_config(tmp_path)


def write_config(directory: Path) -> Path:
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
        "sweep": {"sub_networks": ["full"]},
        "evaluation": {"n_kmeans_seeds": 2, "features": ["pixel_mean"]},
    }  # fmt: skip
    path = directory / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


STAND_IN = '''
"""Stands in for a job of hours: writes a log, waits for RUN/go, ends with what RUN/exit says."""
import pathlib, sys, time
run = pathlib.Path(sys.argv[sys.argv.index("--run") + 1])
for number in range(25):
    print(f"line {number}.", flush=True)
deadline = time.monotonic() + 60
told = False
while not (run / "go").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
    if not told and (run / "more").exists():
        told = True
        print("more.", flush=True)
print("the last line.", flush=True)
sys.exit(int((run / "exit").read_text()))
'''


@pytest.fixture(scope="session")
def stand_in(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Submitter:
    """Submits from a checkout whose jobs are a few lines."""
    checkout = tmp_path_factory.mktemp("stand-in")
    (checkout / "jobs").mkdir()
    for name in ("__init__", "plan", "train"):
        (checkout / "jobs" / f"{name}.py").write_text("" if name == "__init__" else STAND_IN)
    (checkout / "tiny.yaml").write_text("name: tiny\n")
    return Submitter(cluster, checkout)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory, whose stand-in jobs end with 0 at once; without `go` they wait."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "exit").write_text("0")
    (run / "go").touch()
    return run
