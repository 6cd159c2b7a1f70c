"""One process that listens: uvicorn, its log, and how it ends."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn

from lorastyle.serving.gate import App

END_S = 10
"""What is under way may take so long once the server is told to end."""
HEADERS_S = 15
"""A connection that says nothing is closed."""


class Server(uvicorn.Server):
    """Calls `on_listening` with the address once it answers there."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets=sockets)  # type: ignore[arg-type]
        for server in self.servers:
            host, port, *_ = server.sockets[0].getsockname()
            shown = f"[{host}]" if ":" in str(host) else host
            self._on_listening(f"http://{shown}:{port}/")


def serve_app(
    app: App, host: str, port: int, on_listening: Callable[[str], None] = lambda _: None
) -> None:
    """Answer until a signal: then what is under way is finished, nothing new is taken.

    Port 0: any that is free. Raises OSError where the port is taken.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_S,
        timeout_keep_alive=HEADERS_S,
        limit_concurrency=1000,
        proxy_headers=False,
    )
    Server(config, on_listening).run()
