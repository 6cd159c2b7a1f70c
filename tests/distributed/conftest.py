from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorastyle.distributed.local_cluster import LocalCluster
from lorastyle.distributed.session import Session


@pytest.fixture(scope="session")
def ray_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of our own: Ray keeps a token in the user's, which changes its behaviour."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield home


@pytest.fixture(scope="session")
def local_ray(ray_home: Path) -> Iterator[Session]:
    """One Ray for all tests of this folder that do not stop it."""
    with Session(num_cpus=2) as session:
        yield session.start()


@pytest.fixture(scope="session")
def gpu_cluster(ray_home: Path) -> Iterator[LocalCluster]:
    """A cluster of up to three nodes with a fake GPU each, which go when they are idle."""
    with LocalCluster(nodes=3, gpus_per_node=1, idle_s=5.0) as cluster:
        yield cluster


@pytest.fixture
def own_environment(ray_home: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that must not find the tests' Ray, and may be killed."""
    # Short, because Ray's sockets lie deep in it; ours, because a killed Ray leaves it full.
    place = tempfile.mkdtemp(prefix="ls-")
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    yield {**environment, "TMPDIR": place}
    shutil.rmtree(place, ignore_errors=True)
