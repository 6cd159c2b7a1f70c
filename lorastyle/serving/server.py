"""One process that listens: uvicorn, its log, and how it ends."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from lorastyle.errors import ConfigError
from lorastyle.serving.gate import App
from lorastyle.serving.memory import keep_freed_memory, keep_what_is_there

END_S = 10
"""What is under way may take so long once the server is told to end."""
IDLE_S = 15
"""Between two requests of a connection, before it is closed."""


class Server(uvicorn.Server):
    """Calls `on_listening` with the address once it answers there."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            self._on_listening(address_of(listening))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free.

    Raises ConfigError where the port is taken or the address is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address, family=family, backlog=256)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"nothing can listen on {host}, port {port}: {reason}; choose another --port or --host"
        ) from error


def address_of(listening: socket.socket) -> str:
    """The URL of a socket."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve_app(
    app: App, listening: socket.socket, on_listening: Callable[[str], None] = lambda _: None
) -> None:
    """Answer until a signal: then what is under way is finished, nothing new is taken."""
    keep_freed_memory()
    keep_what_is_there()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_S,
        timeout_keep_alive=IDLE_S,
        limit_concurrency=1000,
        proxy_headers=False,
    )
    Server(config, on_listening).run(sockets=[listening])
