"""The server's answers are the lines of `infer.py --json`, to the last digit, whatever shares a batch with them."""

import asyncio
import json
import random

import pytest

from emotion.text import encode_json
from tests.conftest import run_script

OPTIONS: dict[str, dict] = {
    "": {},
    "--top-k 3 --threshold 0.3": {"top_k": 3, "threshold": 0.3},
    "--threshold 0.999 --empty-set top1": {"threshold": 0.999, "empty_set": "top1"},
}


def infer(tiny_run, backend, texts, *options):
    result = run_script(
        "infer.py", "--json", "--backend", backend, "--model", str(tiny_run), *options, stdin="\n".join(texts), PYTHONIOENCODING="utf-8"
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("options", OPTIONS)
def test_answers_equal_those_of_infer_to_the_digit(backend, options, tiny_run, make_client, small_texts):
    expected = infer(tiny_run, backend, small_texts, *options.split())
    client, order = make_client(backend, max_batch=16), random.Random(0).sample(range(len(small_texts)), len(small_texts))

    async def use(client):
        requests: list[tuple[dict, list[int]]] = []
        for start in range(0, len(order), 5):  # each list is beside single texts
            rows = order[start : start + 5]
            requests += [({"texts": [small_texts[row] for row in rows[1:]]}, rows[1:]), ({"text": small_texts[rows[0]]}, rows[:1])]
        requests = [(body, rows) for body, rows in requests if rows]
        replies = await asyncio.gather(*(client.ask("/predict", body | OPTIONS[options]) for body, _ in requests))
        return [(reply, body, rows) for reply, (body, rows) in zip(replies, requests, strict=True)]

    answered = {}
    for reply, body, rows in client.run(use):
        assert reply.status == 200 and reply.headers["content-type"] == "application/json"
        answers = [encode_json(answer) for answer in reply.value["answers"]] if "texts" in body else [reply.body.decode()]
        answered |= dict(zip(rows, answers, strict=True))
    assert [answered[row] for row in range(len(small_texts))] == expected
    num_batches = client.service.metrics.registry.get_sample_value("emotion_batch_texts_count")
    assert num_batches == len(small_texts) if backend == "numpy" else num_batches < len(small_texts) / 4


def test_an_explanation_equals_that_of_infer(tiny_run, make_client, small_texts):
    (expected,) = infer(tiny_run, "numpy", small_texts[:1], "--explain", "--threshold", "0.01")
    reply = make_client("numpy").run(lambda client: client.ask("/explain", {"text": small_texts[0], "threshold": 0.01}))
    assert reply.body.decode() == expected and len(json.loads(expected)["contributions"]) > 1


def test_notes_and_control_characters_are_as_in_infer(tiny_run, make_client):
    text = "Привет\x7f\u202e " + "word " * 300
    (expected,) = infer(tiny_run, "numpy", [text])
    reply = make_client("numpy").run(lambda client: client.ask("/predict", {"text": text}))
    assert reply.body.decode() == expected and "longer than" in reply.value["notes"][-1]


def test_probabilities_can_be_left_out(make_client):
    reply = make_client().run(lambda client: client.ask("/predict", {"texts": ["fine"], "probabilities": False}))
    assert [set(answer) for answer in reply.value["answers"]] == [{"text", "labels"}]
