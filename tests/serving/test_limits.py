"""Limits, timeouts, the token and the health of a server, each with its status."""

import asyncio
import threading

import pytest

from emotion.errors import ConfigError
from emotion.serving.access import TOKEN_VARIABLE, read_token
from emotion.serving.limits import Limits
from emotion.serving.page import format_page
from tests.serving.conftest import JSON

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"text": "x" * 100}, 200, None),
        ({"text": "x" * 101}, 400, "text: has 101 characters, at most 100 are answered; shorten it"),
        ({"texts": ["a"] * 4}, 200, None),
        ({"texts": ["a"] * 5}, 400, "texts: got 5, at most 4 are answered in a request; send several requests"),
        ({"texts": ["a", "é" * 101]}, 400, "texts[1]: has 101 characters, at most 100 are answered; shorten it"),
        ({"texts": ["a", " "]}, 400, "texts[1]: is empty; leave it out"),
        ({"text": "a", "texts": ["a"]}, 400, "body: needs text or texts, and not both"),
        ({"top_k": 3}, 400, "body: needs text or texts, and not both"),
        (b" " * 1_024 + b"{}", 413, "body: is larger than 1,024 bytes; send fewer texts in a request"),
        (b'{"text": "a"' + b" " * 1_011 + b"}", 200, None),
    ],
)
def test_each_limit_is_exact_and_named(body, status, error, make_client):
    reply = make_client(max_characters=100, max_texts=4, max_body_kb=1).run(lambda client: client.ask("/predict", body))
    assert reply.status == status and reply.value.get("error") == error


def test_a_full_queue_is_503_with_retry_after_and_what_waits_is_answered(make_client, monkeypatch):
    client, is_free, is_busy = make_client(max_queue=4, max_texts=4), threading.Event(), threading.Event()
    answer = client.service.answerer.answer

    def answer_later(questions):
        is_busy.set()
        assert is_free.wait(30)
        return answer(questions)

    monkeypatch.setattr(client.service.answerer, "answer", answer_later)

    async def use(client):
        first = asyncio.create_task(client.ask("/predict", {"text": "a"}))
        while not is_busy.is_set():
            await asyncio.sleep(0.001)
        second = asyncio.create_task(client.ask("/predict", {"texts": ["b"] * 4}))
        while len(client.service.texts) < 4:
            await asyncio.sleep(0.001)
        refused = await client.ask("/predict", {"text": "c"})
        is_free.set()
        return await first, await second, refused

    first, second, refused = client.run(use)
    assert (first.status, second.status, refused.status) == (200, 200, 503)
    assert refused.headers["retry-after"] == "1" and refused.value == {"error": "too many texts are waiting; try again later"}


def test_a_slow_body_is_408_and_a_slow_answer_503(make_client, monkeypatch):
    client, is_free = make_client(timeout=1), threading.Event()
    monkeypatch.setattr(client.service.answerer, "answer", lambda _: is_free.wait(30))

    async def use(client):
        try:
            return await asyncio.gather(client.ask("/predict", None, chunks=[b'{"text"']), client.ask("/predict", {"text": "a"}))
        finally:
            is_free.set()

    body, answer = client.run(use)
    assert (body.status, body.value) == (408, {"error": "the body did not arrive within 0.5 s"})
    assert (answer.status, answer.value) == (503, {"error": "not answered within 1 s; try again later"}) and "retry-after" in answer.headers


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN}", 200),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        (f"Bearer {TOKEN}0", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer ", 401),
        ("Bearer é", 401),
        (None, 401),
    ],
)
def test_with_a_token_only_health_is_answered_without_it(sent, status, make_client):
    headers = (*JSON, *([(b"authorization", sent.encode())] if sent is not None else []))

    async def use(client):
        paths = [("/predict", "POST"), ("/metrics", "GET"), ("/docs", "GET"), ("/openapi.json", "GET"), ("/gone", "GET")]
        guarded = [await client.ask(path, {"text": "a"}, method, headers) for path, method in paths]
        return guarded, await client.ask("/health", b"", "GET", headers)

    guarded, health = make_client(token=TOKEN.encode()).run(use)
    assert [reply.status for reply in guarded] == ([200, 200, 200, 200, 404] if status == 200 else [401] * 5)
    assert health.status == 200 and all(reply.headers["www-authenticate"] == "Bearer" for reply in guarded if reply.status == 401)


def test_two_authorization_headers_are_refused(make_client):
    headers = (*JSON, (b"authorization", b"Bearer x"), (b"authorization", f"Bearer {TOKEN}".encode()))
    assert make_client(token=TOKEN.encode()).run(lambda client: client.ask("/predict", {"text": "a"}, headers=headers)).status == 401


def test_a_token_comes_from_a_file_or_the_environment_and_is_not_quoted(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert read_token(str(path)) == TOKEN.encode() and read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert read_token(None) == TOKEN.encode()
    with pytest.raises(ConfigError, match=f"{TOKEN_VARIABLE} is set too; give one of them"):
        read_token(str(path))
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    with pytest.raises(ConfigError, match="a token needs at least 16 visible ASCII characters") as caught:
        read_token(None)
    assert "short" not in str(caught.value)
    monkeypatch.setenv(TOKEN_VARIABLE, "")  # set to nothing by mistake: no server without a token
    with pytest.raises(ConfigError, match="at least 16"):
        read_token(None)
    monkeypatch.delenv(TOKEN_VARIABLE)
    with pytest.raises(ConfigError, match=r"--token-file .*gone: cannot be read \(No such file or directory\)"):
        read_token(str(tmp_path / "gone"))


def test_health_is_live_and_ready_until_the_server_stops(make_client):
    client = make_client()

    async def use(client):
        before = await client.ask("/health", b"", "GET")
        client.service.is_stopping = client.app.is_stopping = True
        return before, await client.ask("/health", b"", "GET"), await client.ask("/health/live", b"", "GET")

    before, after, live = client.run(use)
    assert (before.status, before.value["ready"], before.value["backend"]) == (200, True, "torch on cpu")
    assert (after.status, after.value["ready"], live.status, live.value) == (503, False, 200, {"live": True})
    assert after.headers["connection"] == "close" and "connection" not in before.headers
    assert not client.service.is_ready


def test_metrics_count_requests_texts_and_batches(make_client):
    async def use(client):
        await client.ask("/predict", {"texts": ["a", "b", "c"]})
        await client.ask("/predict", {"text": ""})
        return await client.ask("/metrics", b"", "GET")

    reply = make_client().run(use)
    lines = reply.body.decode().splitlines()
    assert reply.headers["content-type"].startswith("text/plain; version=")
    for line in (
        'emotion_requests_total{path="/predict",status="200"} 1.0',
        'emotion_requests_total{path="/predict",status="400"} 1.0',
        "emotion_texts_total 3.0",
        "emotion_batch_texts_sum 3.0",
        "emotion_batch_texts_count 1.0",
        "emotion_texts_waiting 0.0",
        "emotion_requests_in_flight 1.0",
    ):
        assert line in lines, reply.body.decode()


def test_the_openapi_document_has_all_paths_and_its_page_loads_nothing(make_client):
    async def use(client):
        return (await client.ask("/openapi.json", b"", "GET")).value, (await client.ask("/docs", b"", "GET"))

    document, page = make_client().run(use)
    assert set(document["paths"]) == {"/predict", "/explain", "/health", "/health/live", "/metrics"}
    schema = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"text", "texts", "probabilities", "top_k", "threshold", "empty_set"}
    html = page.body.decode()
    assert html == format_page(document) and "POST /predict" in html and "script" not in html and "//" not in html
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_batch": 0}, "--max-batch 0: must be from 1 to 1,000,000"),
        ({"timeout": float("nan")}, "--timeout nan: must be from 1 to 1,000,000"),
        ({"max_wait_ms": -1}, "--max-wait-ms -1: must be from 0 to 1,000,000"),
        ({"max_queue": 8}, "--max-queue 8: must be at least --max-texts 256, or no such request finds room"),
    ],
)
def test_a_limit_out_of_range_is_a_config_error(values, message):
    with pytest.raises(ConfigError) as caught:
        Limits(**values)
    assert str(caught.value) == message
