"""A server on loopback that speaks S3, for tests of what lies in a bucket."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, Self

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "dummy",
    "AWS_SECRET_ACCESS_KEY": "dummy",
    "AWS_REGION": "us-east-1",
}


class S3Server:
    """Moto's S3, each of whose writes is one step, as S3's are.

    Moto looks at `If-Match` and writes afterwards; of two threads that do so at once both
    would win. What it is asked is noted in `requests`: method and path. A request of which
    `loses` says so is carried out, but its answer is an error: what a client sends again.
    """

    def __init__(self) -> None:
        self.loses: Callable[[str, str], bool] = lambda method, path: False
        self.requests: list[tuple[str, str]] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._writing = threading.Lock()
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=_QuietHandler
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the server."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.url}

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(request).close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        with nullcontext() if method in ("GET", "HEAD") else self._writing:
            if not self.loses(method, path):
                return self._app(environ, start_response)
            list(self._app(environ, lambda *answer: None))
        start_response("500 Internal Server Error", [("Content-Length", "0")])
        return []


class _QuietHandler(MotoRequestHandler):
    def log_request(self, *arguments: Any) -> None: ...
