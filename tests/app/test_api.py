"""The endpoints for programs, called as docs/app.md shows: the same answers as the Python API, errors of one line, ten clients at once."""

import json
import re
import shutil
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emotion.app.answers import answer_text, explain_text
from tests.app.test_scored_files import write_rows
from tests.conftest import ROOT, run_script

TEXT = "Thank you so much, you saved my day!"


@pytest.fixture(scope="module")
def client(served):
    return make_client(served)


def make_client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


def test_predict_is_the_answer(client, model):
    assert client.predict(TEXT, api_name="/predict") == answer_text(model, TEXT).to_record()
    moved = client.predict(text=TEXT, sensitivity=2, model="other", api_name="/predict")
    assert moved == answer_text(model, TEXT, 2).to_record() and moved != answer_text(model, TEXT).to_record()


def test_explain_is_the_explanation(client, model):
    explanation, names = explain_text(model, TEXT), model.predictor.label_set.names
    result = client.predict(text=TEXT, label=names[4], api_name="/explain")
    assert [word["word"] for word in result["words"]] == explanation.words and result["label"] == names[4]
    assert [word["contribution"] for word in result["words"]] == pytest.approx(explanation.contributions[:, 4].tolist(), abs=1e-4)
    assert client.predict(text=TEXT, api_name="/explain")["label"] == names[answer_text(model, TEXT).order[0]]


def test_score_file_returns_the_files_and_the_counts(client, model, tmp_path):
    from gradio_client import handle_file

    path = write_rows(tmp_path / "rows.csv", 60)
    files, counts = client.predict(handle_file(path), "comment", ".csv", "all", 0, "", api_name="/score_file")
    evaluated = run_script(
        "evaluate.py", "--model", model.location, "--input", str(path), "--output", str(tmp_path / "expected.csv"), "--probabilities", "all"
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert Path(files[0]).read_bytes() == (tmp_path / "expected.csv").read_bytes() and len(files) == 2
    assert counts["num_rows"] == 60 and counts["num_bad"] == 2 and set(counts["counts"]) == set(model.predictor.label_set.names)


@pytest.mark.parametrize(
    ("arguments", "endpoint", "message"),
    [
        ([" "], "/predict", "text: is empty; write something"),
        (["a", 7], "/predict", "sensitivity=7: must be a number from -3 to 3"),
        (["a", 0, "gone"], "/predict", "model 'gone': is not served here; choose one of tiny, other"),
        (["a", "hunger"], "/explain", "label 'hunger': tiny does not have it"),
    ],
)
def test_errors_are_one_line(client, arguments, endpoint, message):
    with pytest.raises(Exception, match=re.escape(message)) as caught:
        client.predict(*arguments, api_name=endpoint)
    assert "\n" not in str(caught.value)


def test_a_file_of_the_server_cannot_be_scored(served, tmp_path):
    path = shutil.copyfile(ROOT / "emotion" / "data" / "sample" / "test.csv", tmp_path / "secret.csv")
    file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [file, "", ".csv", "none", 0, ""]}).encode()
    request = urllib.request.Request(f"{served}gradio_api/call/score_file", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{served}gradio_api/call/score_file/{event}") as answer:
        assert answer.read().decode().startswith("event: error")


def test_only_the_documented_endpoints_are_public(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/predict", "/explain", "/score_file"}
    page = (ROOT / "docs" / "app.md").read_text(encoding="utf-8")
    assert set(re.findall(r'api_name="(/\w+)"', page)) == set(endpoints)
    for name, endpoint in endpoints.items():
        assert re.search(rf"`{name[1:]}\({', '.join(parameter['parameter_name'] for parameter in endpoint['parameters'])}\)`", page)


def test_ten_clients_get_their_own_answers(served, model):
    texts = [[f"{TEXT} {client} {number}" for number in range(4)] for client in range(10)]

    def ask(own):
        client = make_client(served)
        return [client.predict(text, api_name="/predict") for text in own]

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, texts))
    for own, given in zip(texts, answers, strict=True):
        assert [answer["text"] for answer in given] == own
        assert given == [json.loads(json.dumps(answer_text(model, text).to_record())) for text in own]
