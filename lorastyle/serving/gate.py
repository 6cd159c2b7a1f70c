"""What every request passes: the server's name, the token, the headers, the counts.

An ASGI middleware of its own: bodies pass through it untouched and unbuffered.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lorastyle.serving.counting import Counts
from lorastyle.serving.refusals import document
from lorastyle.serving.settings import ServingSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/", "/page.css", "/page.js", "/healthz", "/openapi.json"})
"""They say nothing of the run; the page asks for the token itself."""
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Gate:
    """Wraps an app."""

    def __init__(self, app: App, settings: ServingSettings, counts: Counts) -> None:
        self._app, self._settings, self._counts = app, settings, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                given = {name for name, _ in message.get("headers", ())}
                message["headers"] = [
                    *message.get("headers", ()),
                    *(pair for pair in HEADERS if pair[0] not in given),
                ]
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(scope, receive, told)
            else:
                await _answer(told, *refusal)
        finally:
            # The path as it was registered: strangers may ask for any number of paths.
            route = getattr(scope.get("route"), "path", "other")
            self._counts.requests.labels(route, scope["method"], str(status)).inc()
            self._counts.seconds.labels(route).observe(time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        headers = dict(scope["headers"])
        hosts = self._settings.hosts
        host = _host_name(headers.get(b"host", b"").decode("latin-1"))
        if hosts and host not in hosts:
            return 403, "ForbiddenError", "the server has another name"
        if headers.get(b"sec-fetch-site") == b"cross-site" and scope["path"] != "/":
            return 403, "ForbiddenError", "a page of another site may not ask"
        token = self._settings.token
        if token is None or scope["path"] in OPEN_PATHS:
            return None
        given = headers.get(b"authorization", b"")
        # In constant time: how long it takes tells nothing of how much was right.
        if hmac.compare_digest(given, b"Bearer " + token.encode("ascii")):
            return None
        return 401, "UnauthorizedError", "a token is asked for: Authorization: Bearer TOKEN"


def _host_name(host: str) -> str:
    """Without the port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


async def _answer(send: Send, status: int, kind: str, message: str) -> None:
    body = json.dumps(document(kind, message)).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
