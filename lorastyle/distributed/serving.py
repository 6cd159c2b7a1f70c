"""The same app as `lorastyle serve`, by Ray Serve: replicas on the machines of a cluster.

Each replica is a process with the gallery in its memory; Serve's proxy on each machine that has
one hands requests to those that are free.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lorastyle.distributed.session import Session
from lorastyle.serving.settings import ServingSettings

NAME = "lorastyle"
END_S = 10.0
"""What is under way may take so long once a replica is told to end."""


class Replica:
    """One process that serves a run. Serve asks it for its app once it is made."""

    def __init__(self, target: str, settings: ServingSettings) -> None:
        from lorastyle.runs import Run
        from lorastyle.serving.app import make_app

        self._app = make_app(Run.open(target), settings)

    def __serve_build_asgi_app__(self) -> Any:
        return self._app


def application(target: str, settings: ServingSettings, replicas: int) -> Any:
    """The Serve application of a run, for `serve.run`.

    `target` must mean the run on every machine: a URL, or a path on a disk that all share.
    """
    from ray import serve

    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        num_replicas=replicas,
        # The page's small requests beside the uploads, which each replica bounds itself.
        max_ongoing_requests=4 * settings.n_at_once,
        graceful_shutdown_timeout_s=END_S,
        ray_actor_options={"num_cpus": settings.n_workers},
    )
    return deployment.bind(target, settings)


def serve_replicas(
    target: str,
    settings: ServingSettings,
    host: str,
    port: int,
    replicas: int,
    on_listening: Callable[[str], None] = lambda _: None,
    *,
    ended: threading.Event | None = None,
) -> None:
    """Answer on every machine that has a replica until a signal, or until `ended` is set.

    Joins the cluster of RAY_ADDRESS, or starts a Ray here. One worker a replica: a machine of
    many cores takes many replicas.
    """
    settings = replace(settings, n_workers=1)
    done = ended or threading.Event()
    with Session(num_cpus=None) as session:
        session.start()
        from ray import serve

        serve.start(
            proxy_location="EveryNode",
            http_options={"host": host, "port": port, "request_timeout_s": _longest(settings)},
        )
        try:
            serve.run(application(target, settings, replicas), name=NAME, route_prefix="/")
            on_listening(f"http://{host}:{port}/")
            _wait(done)
        finally:
            _within(2 * END_S, lambda: serve.delete(NAME))
            if not session.joins_a_cluster:
                _within(END_S, serve.shutdown)


def _longest(settings: ServingSettings) -> float:
    return settings.receive_s + settings.work_s + END_S


def _within(seconds: float, body: Callable[[], None]) -> None:
    """Carry it out, but go on without it where the cluster does not answer any more."""
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(seconds)


def _wait(done: threading.Event) -> None:
    """Until it is set, or a signal says to end."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: done.set())
    with suppress(KeyboardInterrupt):
        done.wait()
