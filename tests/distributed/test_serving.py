"""The app behind Ray Serve answers what it answers in one process."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from lorastyle.distributed.serving import serve_replicas
from lorastyle.distributed.session import Session
from lorastyle.runs import Run
from lorastyle.serving.app import make_app
from lorastyle.serving.settings import ServingSettings

TOKEN = "e" * 20


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported
def test_a_replica_answers_as_one_process_does(
    local_ray: Session, wild_run: Run, wild: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ServingSettings(token=TOKEN, max_upload_bytes=1 << 20)
    listening, ended = threading.Event(), threading.Event()
    where: list[str] = []

    def told(address: str) -> None:
        where.append(address)
        listening.set()

    def serve() -> None:
        arguments = (str(wild_run.directory), settings, "127.0.0.1", port, 1, told)
        serve_replicas(*arguments, ended=ended)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert listening.wait(60)
        wish = {"files": {"file": ("a", (wild / "anna-00.safetensors").read_bytes())}}
        assert httpx2.post(f"{where[0]}search", **wish).status_code == 401
        wish["headers"] = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx2.post(f"{where[0]}search", timeout=60, **wish)
        assert answer.status_code == 200
        assert (
            answer.json() == TestClient(make_app(wild_run, settings)).post("/search", **wish).json()
        )
        big = {**wish, "files": {"file": ("a", b"x" * (2 << 20))}}
        assert httpx2.post(f"{where[0]}inspect", **big).status_code == 413
    finally:
        ended.set()
        thread.join(60)
    assert not thread.is_alive()
