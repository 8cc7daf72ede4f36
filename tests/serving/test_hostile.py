"""A thousand hostile bodies get 4xx and one line each, and the server goes on answering; no text reaches a log."""

import asyncio
import gzip
import json
import random

import pytest

from tests.serving.conftest import JSON

MARK = "a-private-text"
"""In every text of these bodies; it must not be in an error or a log."""
VALID = json.dumps({"text": f"{MARK} fine"}).encode()
NUM_BODIES = 1_000


def make_bodies():
    """Yield (body, headers), each of which has to be refused."""
    generator = random.Random(0)
    for number in range(200):  # cut short, or with a byte in the place of the JSON's structure
        yield VALID[: number % len(VALID)], JSON
    for number in range(200):  # raw control characters and bytes that are not UTF-8, inside the text
        bad = bytes([number % 32]) if number % 2 else bytes([generator.randrange(0x80, 0xC0)])
        yield VALID.replace(b" fine", bad), JSON
    wrong = [None, True, 1, -1.5, [], {}, [MARK], {"a": MARK}, "", " \n\t", "\ud800", f"{MARK}\udfff"]
    for number in range(200):  # wrong types, empty texts, lone surrogates, in each place
        value = wrong[number % len(wrong)]
        yield (
            json.dumps([{"text": value}, {"texts": [MARK, value]}, value, {"text": MARK, f"\ud800\n{number}": 1}][number % 4]).encode(),
            JSON,
        )
    for number in range(100):  # values that options do not allow, numbers that JSON does not have
        key, values = (("top_k", ("0", "-1", "1.5", "true", '"3"', "1e999", "9" * 5_000)), ("threshold", ("0", "1", "NaN", "1e-999")))[
            number % 2
        ]
        yield b'{"text": "%s", "%s": %s}' % (MARK.encode(), key.encode(), values[number % len(values)].encode()), JSON
    for number in range(100):  # deep nesting
        depth = 10 ** (1 + number % 5)
        yield (b"[" * depth if number % 2 else b'{"text":' * depth) + b"]" * (depth if number % 4 else 0), JSON
    encodings = ("utf-16", "utf-32", "utf-16-le", "utf-8-sig", "utf-7")
    for number in range(50):  # other encodings than UTF-8 of JSON that would be valid
        text = VALID.decode().replace("fine", "né")
        yield text.encode(encodings[number % len(encodings)]) if number % 5 < 4 else text.encode("latin-1"), JSON
    types = (
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"",
        b"\xff",
        b"application/json; charset=latin-1",
    )
    for number in range(100):
        yield VALID, ((b"content-type", types[number % len(types)]),)
    for number in range(40):
        yield gzip.compress(VALID), (*JSON, (b"content-encoding", (b"gzip", b"br")[number % 2]))
    for number in range(10):  # 10 MB, valid if it were read
        yield json.dumps({"text": MARK + "x" * 10_000_000} if number % 2 else {"texts": [MARK] * 700_000}).encode(), JSON


def test_hostile_bodies_get_4xx_and_the_server_lives(make_client, capsys):
    client, bodies = make_client(is_logging=True), list(make_bodies())
    assert len(bodies) == NUM_BODIES

    async def use(client):
        replies = []
        for number, (body, headers) in enumerate(bodies):
            chunks = [body[start : start + 65_536] for start in range(0, len(body) - 65_536, 65_536)]
            rest = body[len(chunks) * 65_536 :]
            replies.append(await client.ask(("/predict", "/explain")[number // 2 % 2], rest, headers=headers, chunks=chunks))
        return replies, await client.ask("/predict", VALID), await client.ask("/health", method="GET")

    replies, answer, health = client.run(use)
    wrong = [(reply, body[:100], headers) for reply, (body, headers) in zip(replies, bodies, strict=True) if not 400 <= reply.status < 500]
    assert wrong == []
    assert {reply.status for reply in replies} == {400, 413, 415}
    for reply in replies:
        assert set(reply.value) == {"error"} and "\n" not in reply.value["error"] and MARK not in reply.value["error"]
        assert len(reply.value["error"]) < 500
    assert answer.status == 200 and answer.value["labels"] is not None and health.value["ready"] is True
    printed = "".join(capsys.readouterr())
    assert MARK not in printed and printed.count("POST /predict 200") == 1 and printed.count("\n") == NUM_BODIES + 2


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/predict", "GET", 405),
        ("/predict", "X" * 5_000, 405),
        ("/gone\x00/../predict", "POST", 404),
        ("/predict/", "POST", 404),
        ("", "GET", 404),
    ],
)
def test_other_paths_and_methods_are_refused_and_counted_as_one(path, method, status, make_client):
    client = make_client()
    reply = client.run(lambda client: client.ask(path, VALID, method))
    assert reply.status == status and set(reply.value) == {"error"}
    counted = client.service.metrics.format().decode()
    assert f'path="{path if path == "/predict" else "other"}",status="{status}"' in counted


def test_a_failure_of_the_model_is_500_for_its_own_request_only_and_its_message_is_not_logged(make_client, capsys, monkeypatch):
    client = make_client(max_wait_ms=50)
    answer = client.service.answerer.answer

    def fail(questions):
        if any("fail" in question.text for question in questions):
            raise RuntimeError(MARK)
        return answer(questions)

    monkeypatch.setattr(client.service.answerer, "answer", fail)

    async def use(client):
        return await asyncio.gather(*(client.ask("/predict", {"text": text}) for text in ("a", "fail", "b")))

    replies = client.run(use)
    assert [reply.status for reply in replies] == [200, 500, 200]
    assert replies[1].value == {"error": "internal error; the server's log says where"}
    error = capsys.readouterr().err
    assert error.startswith("error: /predict: RuntimeError < test_hostile.py:") and error.count("\n") == 1 and MARK not in error
