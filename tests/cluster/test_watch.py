"""The watch of `ray up`'s workers: a machine without a raylet ends itself, and no other does."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.validate import HERE

pytestmark = pytest.mark.skipif(shutil.which("pgrep") is None, reason="needs pgrep (procps)")

NAME = f"watched{os.getpid() % 10_000}"  # in place of `raylet`: others run here


@pytest.fixture
def raylet(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = tmp_path / NAME
    shutil.copy(str(shutil.which("sleep")), program)
    process = subprocess.Popen([program, "60"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The script of aws.yaml, with seconds for minutes over a hundred and a file for the end."""
    (command,) = yaml.safe_load((HERE / "aws.yaml").read_text())["metadata"]["watch"]
    script = command.split("/bin/sh -c '")[1].split("' || true")[0]
    for before, after in {
        "raylet": NAME,
        "sleep 60": "sleep 0.05",
        "sleep 300": "sleep 0.5",
        "shutdown --poweroff now": f"touch {tmp_path}/powered-off",
    }.items():
        assert before in script
        script = script.replace(before, after)
    process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def test_a_machine_is_left_alone_while_its_raylet_lives_and_ended_when_it_is_gone(
    raylet: subprocess.Popen[bytes], watch: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    time.sleep(1)
    assert watch.poll() is None
    raylet.kill()
    raylet.wait()
    assert watch.wait(timeout=20) == 0
    assert (tmp_path / "powered-off").exists()


def test_a_raylet_that_is_started_anew_in_time_keeps_its_machine(
    raylet: subprocess.Popen[bytes], watch: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    time.sleep(0.3)
    raylet.kill()
    raylet.wait()
    second = subprocess.Popen([tmp_path / NAME, "60"])
    try:
        time.sleep(1.5)
        assert watch.poll() is None
    finally:
        second.kill()
        second.wait()


def test_both_clouds_have_the_same_watch() -> None:
    aws, gcp = (yaml.safe_load((HERE / f"{name}.yaml").read_text()) for name in ("aws", "gcp"))
    assert aws["metadata"]["watch"] == gcp["metadata"]["watch"]
    for config in (aws, gcp):
        for name, kind in config["available_node_types"].items():
            watched = kind.get("initialization_commands") == config["metadata"]["watch"]
            assert watched == (name != config["head_node_type"])
