"""ASGI middleware before everything else: token, size and time of a request, counts, and an answer for every failure."""

import asyncio
import json
import time
import traceback
from pathlib import Path
from typing import Any

from emotion.serving.access import is_authorized
from emotion.serving.limits import Limits
from emotion.serving.metrics import Metrics
from emotion.text import print_message

OPEN_PATHS = ("/health", "/health/live")
"""Answered without a token: load balancers have none."""
PATHS = ("/predict", "/explain", "/metrics", "/openapi.json", "/docs", *OPEN_PATHS)
"""Names of paths in counts and logs; any other is `other`, because it holds what a client wrote."""
MAX_DISCARDED = 64 * 2**20
"""Bytes of a body that is too large which are read and dropped, so that the client, which is still sending, sees the answer."""


class RefusedError(Exception):
    """A request that is answered with a status and one line before the application sees it."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class Guard:
    """Passes a request on with its whole body, or refuses it; requests are counted and, if asked for, logged."""

    def __init__(self, app: Any, limits: Limits, token: bytes | None, metrics: Metrics, is_logging: bool) -> None:
        self._app, self._limits, self._token, self._metrics, self._is_logging = app, limits, token, metrics, is_logging
        self.is_stopping = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in PATHS else "other"
        started, status = time.perf_counter(), 0

        async def send_counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.is_stopping:
                    message = message | {"headers": [*message.get("headers", []), (b"connection", b"close")]}
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                async with asyncio.timeout(self._limits.timeout):
                    await self._answer(scope, receive, send_counted)
            except RefusedError as error:
                await _send_error(send_counted, error)
            except TimeoutError:
                if not status:
                    message = f"not answered within {self._limits.timeout:g} s; try again later"
                    await _send_error(send_counted, RefusedError(503, message, {"retry-after": "5"}))
            except Exception as error:
                print_message(f"error: {path}: {describe_failure(error)}")
                if not status:
                    await _send_error(send_counted, RefusedError(500, "internal error; the server's log says where"))
        seconds = time.perf_counter() - started
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        if self._is_logging:
            print_message(f"{scope['method'][:10]} {path} {status} {1_000 * seconds:.0f} ms")

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] not in OPEN_PATHS and not is_authorized(scope["headers"], self._token):
            raise RefusedError(401, "needs the header `Authorization: Bearer TOKEN`", {"www-authenticate": "Bearer"})
        body = await self._read_body(scope, receive)
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_body() -> Any:
            return messages.pop() if messages else await receive()

        await self._app(scope, receive_body, send)

    async def _read_body(self, scope: Any, receive: Any) -> bytes:
        """Return the body; one that is too large is read to its end, but not kept."""
        parts, num_bytes, limit = [], 0, self._limits.max_body_bytes
        try:
            async with asyncio.timeout(self._limits.timeout / 2):
                while num_bytes <= MAX_DISCARDED:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "the body ended early")
                    part = message.get("body", b"")
                    num_bytes += len(part)
                    if num_bytes <= limit:
                        parts.append(part)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            message = f"the body did not arrive within {self._limits.timeout / 2:g} s"
            raise RefusedError(408, message, {"connection": "close"}) from None
        if num_bytes > limit:
            raise RefusedError(413, f"body: is larger than {limit:,} bytes; send fewer texts in a request", {"connection": "close"})
        return b"".join(parts)


def describe_failure(error: BaseException) -> str:
    """Return the type of an exception and where it was raised; its message may quote a text, so it is left out."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join([type(error).__name__, *(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))])


async def _send_error(send: Any, error: RefusedError) -> None:
    content = json.dumps({"error": str(error)}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content))} | error.headers
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})
