"""Listen, and stop without losing a request."""

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from emotion.errors import ConfigError, exit_at_once
from emotion.serving.application import Service
from emotion.serving.guard import Guard
from emotion.serving.limits import DRAIN_SECONDS, KEEP_ALIVE_SECONDS, MAX_CONNECTIONS

BACKLOG = 1_024
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOG = logging.getLogger("uvicorn.error")


class Server(uvicorn.Server):  # type: ignore[misc]
    """uvicorn's server, which after the first signal still answers for a moment, and after the second SIGINT ends at once."""

    def __init__(self, service: Service, app: Guard) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=round(service.limits.timeout),
        )
        super().__init__(config)
        LOG.setLevel(logging.ERROR)  # each malformed request would be a line
        self._service, self._app = service, app
        self._stop_at = float("inf")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals meanwhile; uvicorn would raise them again at the end, as a failure of the process."""
        handlers = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.is_stopping and sig == signal.SIGINT:
            self.should_exit = self.force_exit = True
            LOG.disabled = True  # each task that is cancelled would be a traceback
        elif not self._service.is_stopping:
            self._service.is_stopping = self._app.is_stopping = True
            self._stop_at = time.monotonic() + DRAIN_SECONDS

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self._stop_at
        return await super().on_tick(counter)


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises: ConfigError if the host or the port cannot be used.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError):
        raise ConfigError(f"--host {host}: is no address of this machine; 127.0.0.1 is for this machine only, 0.0.0.0 for all") from None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's delay of 40 ms on
        if os.name == "posix":  # elsewhere the option lets two servers listen on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: cannot listen there ({error.strerror}); choose another --port or --host") from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only this machine reaches a socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def name_address(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(service: Service, app: Guard, listener: socket.socket) -> bool:
    """Serve until a signal stops it, and return whether all requests were answered: not after a second SIGINT.

    If an answer is still computed that nobody waits for any more, the process ends here: Python would wait for the thread.
    """
    server = Server(service, app)
    asyncio.run(server.serve([listener]))
    if service.is_computing:
        exit_at_once(130 if server.force_exit else 0)
    return not server.force_exit
