"""Several processes on one socket: they answer as one, count as one, and end as one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import httpx2
import psutil
import pytest
from starlette.testclient import TestClient

from lorastyle.errors import StageError
from lorastyle.serving import processes
from lorastyle.serving.app import make_app, open_app
from lorastyle.serving.processes import ProcessError, serve_processes
from lorastyle.serving.server import listen
from lorastyle.serving.settings import ServingSettings
from tests.serving.conftest import form

SETTINGS = ServingSettings(n_workers=1)
pytestmark = pytest.mark.timeout(120)


@contextmanager
def serving(factory, n: int) -> Iterator[str]:
    ended, told = threading.Event(), threading.Event()
    where: list[str] = []

    def listening(address: str) -> None:
        where.append(address)
        told.set()

    with listen("127.0.0.1", 0) as free:
        arguments = (factory, free, n, listening)
        thread = threading.Thread(target=lambda: serve_processes(*arguments, ended=ended))
        thread.start()
        try:
            assert told.wait(60)
            yield where[0]
        finally:
            ended.set()
            thread.join(40)
        assert not thread.is_alive()


def children() -> list[psutil.Process]:
    found = []
    for one in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # one that has just died is one too
            if "spawn_main" in " ".join(one.cmdline()):
                found.append(one)
    return found


def total(text: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


SEARCHES = 'lorastyle_requests_total{method="POST"'
SEARCH_TIMES = 'lorastyle_request_seconds_count{route="/search"}'


def counts(address: str, n_searches: int) -> str:
    """Once so many are counted, which is after their answers went out: another process may be
    asked before.
    """
    for _ in range(100):
        text = httpx2.get(f"{address}metrics").text
        if total(text, SEARCHES) >= n_searches and not total(text, "lorastyle_uploads_at_once"):
            return text
        time.sleep(0.05)
    pytest.fail(f"{n_searches} searches were never counted:\n{text}")


def test_they_answer_and_count_as_one_and_one_that_dies_is_replaced(
    wild_run, stranger, monkeypatch
):
    before = len(children())
    expected = TestClient(make_app(wild_run, SETTINGS)).post("/search", files=form(stranger))
    with serving(partial(open_app, wild_run.directory, SETTINGS), 2) as address:
        assert len(children()) == before + 2

        def ask() -> dict:
            # A connection of its own each time, as it comes to either.
            return httpx2.post(f"{address}search", files=form(stranger), timeout=30).json()

        for _ in range(6):
            assert ask() == expected.json()
        counted = counts(address, 6)
        assert total(counted, SEARCHES) == total(counted, SEARCH_TIMES) == 6
        assert total(counted, "lorastyle_gallery_adapters") == expected.json()["n_gallery"]

        monkeypatch.setattr(processes, "LEAST_LIFE_S", 0.0)
        victim = children()[-1].pid
        os.kill(victim, signal.SIGKILL)
        for _ in range(600):
            now = {one.pid for one in children()}
            if victim not in now and len(now) == before + 2:
                break
            time.sleep(0.05)
        else:
            pytest.fail("nobody took the place of the process that died")
        assert ask() == expected.json()
        assert total(counts(address, 7), SEARCHES) == 7
    assert len(children()) == before
    assert processes.SHARED_COUNTS not in os.environ


def refuse() -> None:
    raise StageError("this run has no style space")


def vanish() -> None:
    os._exit(3)


@pytest.mark.parametrize(
    ("factory", "because"),
    [(refuse, "no style space"), (vanish, "ended before it could answer")],
)
def test_why_a_process_cannot_answer_is_said(factory, because):
    with listen("127.0.0.1", 0) as free, pytest.raises(ProcessError, match=because):
        serve_processes(factory, free, 2)
    assert not children()


def crash_soon():
    threading.Timer(0.5, lambda: os._exit(3)).start()
    return crash_soon  # never asked


def test_a_process_that_dies_at_once_is_not_begun_again_and_again():
    with (
        listen("127.0.0.1", 0) as free,
        pytest.raises(ProcessError, match="status 3 right after it began"),
    ):
        serve_processes(crash_soon, free, 1)
