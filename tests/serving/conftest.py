"""A service of the tiny run in this process, asked through its ASGI interface."""

import asyncio
import json
from typing import NamedTuple

import pytest

pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install -r requirements-serve.txt")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed: pip install -r requirements-serve.txt")

from emotion.inference.loading import load_predictor
from emotion.serving.answering import Answerer
from emotion.serving.application import Service, build_app
from emotion.serving.limits import Limits

JSON = ((b"content-type", b"application/json"),)


class Reply(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def value(self):
        return json.loads(self.body)


class Client:
    """Asks an application; `started` is set once it asks for the body."""

    def __init__(self, service, **options):
        self.service = service
        self.app = build_app(service, **{"token": None, **options})

    async def ask(self, path, body=b"", method="POST", headers=JSON, chunks=()):
        """Return the reply to a request whose body comes in chunks, the last of them `body`; None is a pause that never ends."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        parts, sent = [*chunks, content], []

        async def receive():
            part = parts.pop(0)
            if part is None:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(), "root_path": ""}
        scope |= {"query_string": b"", "headers": list(headers), "scheme": "http", "server": ("test", 80), "client": ("test", 1)}
        await self.app(scope | {"asgi": {"version": "3.0"}}, receive, send)
        start, *rest = sent
        names = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], names, b"".join(message.get("body", b"") for message in rest))

    def run(self, use):
        """Return what the coroutine function `use`, called with this client, returns while the service lives."""

        async def live():
            async with self.service.run(None):
                return await asyncio.wait_for(use(self), 60)

        return asyncio.run(live())


@pytest.fixture(scope="session")
def predictors(tiny_run):
    """The tiny run by backend."""
    return {backend: load_predictor(str(tiny_run), backend) for backend in ("numpy", "torch")}


@pytest.fixture
def make_client(predictors):
    """Return a function that makes a client."""

    def make(backend="torch", token=None, is_logging=False, **limits):
        answerer = Answerer(predictors[backend], "tiny")
        return Client(Service(answerer, Limits(**limits)), token=token, is_logging=is_logging)

    return make
