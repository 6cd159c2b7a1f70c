"""An app that serves the wild run, and one that really listens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from lorastyle.adapters.formats.opening import FileInMemory
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.serving.app import make_app
from lorastyle.serving.gate import Gate
from lorastyle.serving.server import Server, address_of, listen
from lorastyle.serving.settings import ServingSettings
from lorastyle.serving.uploads import Received

SETTINGS = ServingSettings(max_upload_bytes=4 << 20, n_at_once=4)


@pytest.fixture(scope="session")
def app(wild_run) -> Gate:
    return make_app(wild_run, SETTINGS)


@pytest.fixture
def client(app) -> TestClient:
    return TestClient(app)


@pytest.fixture
def stranger(painter, tmp_path) -> Path:
    """A file of an artist of the run that the run has not seen."""
    path = tmp_path / "stranger.safetensors"
    write_adapter(painter.adapter("bela", 1000, 8, "stranger"), path, "kohya")
    return path


@contextmanager
def listening(app: Gate) -> Iterator[str]:
    """The app on a free port of loopback."""
    with listen("127.0.0.1", 0) as free:
        server = Server(uvicorn.Config(app, log_level="warning", access_log=False), lambda _: None)
        thread = threading.Thread(target=server.run, args=([free],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield address_of(free)
        finally:
            server.should_exit = True
            thread.join(20)


def bytes_of(received: Received) -> bytes:
    """Of a file that was uploaded, wherever it is."""
    file = received.file
    return bytes(file.content) if isinstance(file, FileInMemory) else file.read_bytes()


def form(path: Path, name: str | None = None) -> dict[str, tuple[str, bytes]]:
    """As an upload of httpx."""
    return {"file": (name or path.name, path.read_bytes())}
