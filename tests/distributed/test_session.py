from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lorastyle.distributed.session import Session, opened


def python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.ray
def test_a_session_uses_the_ray_that_is_there_and_leaves_it_running(local_ray: Session) -> None:
    import ray

    with Session() as session:
        session.start()
    with opened(None):
        pass
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_local_ray_and_its_directory_are_gone_after_the_block(
    own_environment: dict[str, str], tmp_path: Path
) -> None:
    code = """
import os, tempfile
from pathlib import Path
import psutil
os.environ.pop("RAY_AUTH_MODE")
from lorastyle.distributed.session import Session
with Session(num_cpus=1) as session:
    session.start()
    import ray
    @ray.remote
    def threads():
        return os.environ["OMP_NUM_THREADS"]
    assert ray.get(threads.remote()) == "1"
    assert ray.cluster_resources()["CPU"] == 1
    directory = session._temp_dir
    assert directory.is_dir()
    assert os.environ["RAY_AUTH_MODE"] == "token"
assert not ray.is_initialized()
assert not directory.exists()
assert not list(Path.home().iterdir()), "a token was written into the home directory"
"""
    own_environment.pop("OMP_NUM_THREADS")
    own_environment["HOME"] = str(tmp_path)
    done = python(code, own_environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.ray
def test_nothing_of_a_local_ray_survives_its_killed_driver(
    own_environment: dict[str, str], tmp_path: Path
) -> None:
    code = """
import sys, time
from lorastyle.distributed.session import Session
Session(num_cpus=1).start()
open(sys.argv[1], "w").close()
time.sleep(100)
"""
    ready = tmp_path / "ready"
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(ready)],
        env=own_environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert ready.exists()
        family = [
            process
            for process in psutil.Process(driver.pid).children(recursive=True)
            # They look for their raylet twice a minute, and go by themselves.
            if process.name() not in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
        ]
        assert len(family) > 2
    finally:
        driver.kill()
        driver.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


def test_a_session_that_nothing_needed_never_imports_ray(own_environment: dict[str, str]) -> None:
    code = """
import sys
from lorastyle.distributed.session import Session
with Session():
    pass
assert "ray" not in sys.modules
"""
    done = python(code, own_environment)
    assert done.returncode == 0, done.stderr


def test_a_cluster_that_does_not_answer_is_named(own_environment: dict[str, str]) -> None:
    code = """
from lorastyle.distributed.session import Session
from lorastyle.errors import StageError
try:
    Session("127.0.0.1:9").start()
except StageError as error:
    print(error)
"""
    done = python(code, own_environment)
    assert "no Ray cluster answers at '127.0.0.1:9'" in done.stdout, done.stderr
