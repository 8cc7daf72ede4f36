"""The public API answers what the scripts answer, and imports only what an answer needs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import emotion
import emotion.api
from emotion.evaluation.decision import DecisionRule
from emotion.inference.answers import build_record
from emotion.inference.predictor import Predictor
from emotion.labels import LabelSet
from emotion.scoring.formats import format_scores
from tests.conftest import ROOT, SAMPLE, infer_cold, run_script

TEXTS = ["I love this so much!", "NA", "so\x85so 🙃", "I am furious. " * 60, "ok"]
SLOW = {"torch", "transformers", "pandas", "sklearn", "matplotlib"}


@pytest.fixture(scope="module")
def model(tiny_run):
    return emotion.load(tiny_run, backend="numpy")


def run_python(code, *arguments):
    """Return what `python -c CODE` prints, as JSON, in an interpreter of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_importing_the_package_imports_nothing_else():
    code = (
        "import json, sys; before = set(sys.modules); import emotion; new = set(sys.modules) - before\n"
        "print(json.dumps(sorted(name for name in new if name.split('.')[0] not in sys.stdlib_module_names)))"
    )
    assert run_python(code) == ["emotion"]


def test_every_public_name_can_be_imported():
    names = {"BatchOptions", "BatchScorer", "ConfigError", "DataError", "EmotionError", "Explanation", "Model", "ModelError", "load"}
    assert set(emotion.__all__) == names
    for name in emotion.__all__:
        assert getattr(emotion, name).__name__ == name
    assert set(emotion.__all__) <= set(dir(emotion))
    with pytest.raises(AttributeError, match="module 'emotion' has no attribute 'scores'"):
        emotion.scores  # type: ignore[attr-defined]  # noqa: B018


def test_a_model_tells_its_labels_and_backend(model, tiny_run):
    sidecar = json.loads((tiny_run / "model" / "emotion.json").read_text())
    assert len(sidecar["labels"]) > 2
    assert list(model.label_names) == sidecar["labels"]
    assert model.thresholds == dict(zip(sidecar["labels"], sidecar["decision"]["thresholds"], strict=True))
    assert model.backend_name == "numpy"
    assert repr(model) == f"<emotion.Model '{tiny_run}': {len(sidecar['labels'])} labels, numpy>"


def test_a_text_is_answered_as_by_infer(model, tiny_run):
    text = "Thanks, but the battery died again."
    (row,) = model.predict([text])
    descending = np.sort(row)[::-1]
    threshold = float(descending[2:4].mean())  # three labels are above it
    record, _ = infer_cold(tiny_run, "--text", text, "--explain", "--threshold", str(threshold))
    assert {name: round(float(value), 4) for name, value in zip(model.label_names, row, strict=True)} == record["probabilities"]
    (labels,) = model.predict_labels([text], threshold=threshold)
    assert len(labels) == 3
    assert labels == record["labels"]
    explanation = model.explain(text)
    assert explanation.words == ["Thanks", ",", "but", "the", "battery", "died", "again", "."]
    for label in labels:
        column = explanation.contributions[:, model.label_names.index(label)]
        contributions = [[word, round(float(value), 3)] for word, value in zip(explanation.words, column, strict=True)]
        assert contributions == record["contributions"][label]


def test_torch_answers_as_its_predictor(tiny_run):
    model = emotion.load(str(tiny_run))
    assert model.backend_name.startswith("torch on ")
    probabilities = model.predict(iter(TEXTS))
    np.testing.assert_array_equal(probabilities, Predictor.load(str(tiny_run)).predict(TEXTS))
    assert probabilities.dtype == np.float32 and probabilities.shape == (len(TEXTS), len(model.label_names))


def test_labels_follow_the_decision_rule(model):
    probabilities = model.predict(TEXTS)
    predicted = probabilities >= np.array(list(model.thresholds.values()))
    for labels, row, is_predicted in zip(model.predict_labels(TEXTS), probabilities, predicted, strict=True):
        assert set(labels) == {model.label_names[column] for column in np.flatnonzero(is_predicted)}
        scores = [row[model.label_names.index(label)] for label in labels]
        assert scores == sorted(scores, reverse=True)
    top = [[model.label_names[row.argmax()]] for row in probabilities]
    assert model.predict_labels(TEXTS, threshold=0.9999, empty_set="none") == [[] for _ in TEXTS]
    assert model.predict_labels(TEXTS, threshold=0.9999, empty_set="top1") == top


def test_equal_probabilities_have_one_order_everywhere():
    """Labels that always occur together have the same weights in TF-IDF."""
    names = tuple(f"label-{number}" for number in range(40))
    scores = np.full(40, 0.25, dtype=np.float32)
    scores[[9, 30]] = 0.75
    expected = ["label-9", "label-30", *(name for name in names if name not in ("label-9", "label-30"))]
    rule = DecisionRule((0.1,) * 40)
    predictor = SimpleNamespace(label_set=LabelSet(names), rule=rule, predict=lambda texts: scores[None])
    record = build_record("a", names, scores, scores > 0, rule, None, None)
    cells = format_scores(scores, scores > 0, "40", Path("a.csv"), LabelSet(names))
    assert emotion.api.Model(predictor, "").predict_labels(["a"]) == [expected]
    assert record["labels"] == list(record["probabilities"]) == cells[1::2] == expected
    top = DecisionRule((0.9,) * 40, "top1").decide(scores[None])[0]
    assert build_record("a", names, scores, top, rule, 1, None)["labels"] == ["label-9"] == list(record["probabilities"])[:1]


def test_no_texts_have_no_answers(model):
    assert model.predict([]).shape == (0, len(model.label_names))
    assert model.predict_labels([]) == []


def test_numpy_answers_without_slow_packages(tiny_run, tmp_path):
    code = (
        "import json, sys, emotion\n"
        "model = emotion.load(sys.argv[1], backend='numpy')\n"
        "answers = model.predict_labels(['ok']), model.explain('ok').words, model.score_file(sys.argv[2], sys.argv[3]).num_rows\n"
        f"print(json.dumps([answers[1:], sorted({SLOW} & set(sys.modules))]))"
    )
    assert run_python(code, tiny_run, SAMPLE / "test.csv", tmp_path / "scored.csv") == [[["ok"], len(pd.read_csv(SAMPLE / "test.csv"))], []]


def test_a_file_is_scored_as_by_evaluate(tiny_run, tmp_path):
    source = tmp_path / "comments.csv"
    rows = pd.read_csv(SAMPLE / "test.csv").rename(columns={"text": "body"}).head(50)
    rows.assign(text="not this").to_csv(source, index=False)
    by_script, by_api = tmp_path / "script.csv", tmp_path / "api.csv"
    options = ["--probabilities", "all", "--threshold", "0.2", "--empty-set", "top1"]
    result = run_script(
        "evaluate.py", "--model", str(tiny_run), "--input", str(source), "--output", str(by_script), *options, "data.text_column=body"
    )
    assert result.returncode == 0, result.stderr
    model = emotion.load(tiny_run, backend="torch")
    tally = model.score_file(source, by_api, "all", text_column="body", threshold=0.2, empty_set="top1")
    assert len(by_script.read_bytes().splitlines()) > 50
    assert by_api.read_bytes() == by_script.read_bytes()
    assert (tally.num_rows, tally.num_bad) == (50, 0)
    metrics = json.loads((tmp_path / "script.csv.metrics.json").read_text())
    assert {"num_rows": 50, **tally.scores} == metrics


def test_patterns_and_several_files_are_scored_into_one(model, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"text\n{name} is nice\n")
    both, pattern = tmp_path / "both.jsonl", tmp_path / "pattern.jsonl"
    model.score_file([tmp_path / "a.csv", str(tmp_path / "b.csv")], both, 1)
    model.score_file(tmp_path / "[ab].csv", pattern, probabilities=1)
    assert [json.loads(line)["text"] for line in both.read_text().splitlines()] == ["a is nice", "b is nice"]
    assert pattern.read_bytes() == both.read_bytes()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda model: model.predict("ok"), TypeError, "texts: got one string, need a list of strings; write [text]"),
        (
            lambda model: model.predict({"ok": "fine"}),
            TypeError,
            "texts: got dict, need a list of strings; give the texts of one column",
        ),
        (
            lambda model: model.predict_labels(pd.DataFrame({"a title": ["ok"]})),
            TypeError,
            "texts: got DataFrame, need a list of strings; give the texts of one column",
        ),
        (
            lambda model: model.predict_labels(["ok"], threshold="0.5"),
            emotion.ConfigError,
            "threshold='0.5': must be a number in (0, 1)",
        ),
        (
            lambda model: model.score_file("a.csv", "b.csv", text_column=1),
            emotion.ConfigError,
            "text_column=1: must be the name of a column",
        ),
        (lambda model: model.predict(["ok", None]), emotion.DataError, "texts[1]: is None, not a string; convert it or leave it out"),
        (lambda model: model.predict(None), TypeError, "texts: got NoneType, need a list of strings"),
        (lambda model: model.predict(b"hi"), TypeError, "texts: got one string, need a list of strings; write [text]"),
        (lambda model: emotion.load(None), TypeError, "location: got NoneType, need a string or a Path"),
        (lambda model: emotion.load(""), emotion.DataError, "location: is empty; name a file or a folder"),
        (lambda model: model.score_file(5, "b.csv"), TypeError, "inputs: got int, need a string or a Path"),
        (lambda model: model.score_file("a.csv", ""), emotion.DataError, "output: is empty; name a file or a folder"),
        (
            lambda model: model.score_file("a.csv", "b.csv", label_column=""),
            emotion.ConfigError,
            "label_column='': must be the name of a column",
        ),
        (lambda model: model.score_file("a.csv", "b.csv", overwrite="no"), emotion.ConfigError, "overwrite='no': must be True or False"),
        (lambda model: model.predict_labels([" \n"]), emotion.DataError, "texts[0]: is empty; leave it out"),
        (lambda model: model.predict(["ok", "a\ud800"]), emotion.DataError, "texts[1]: is not valid UTF-8; leave it out"),
        (lambda model: model.explain(""), emotion.DataError, "texts[0]: is empty; leave it out"),
        (lambda model: model.predict_labels(["ok"], threshold=1), emotion.ConfigError, "threshold=1: must be a number in (0, 1)"),
        (lambda model: model.predict_labels(["ok"], empty_set="all"), emotion.ConfigError, "empty_set='all': must be one of none, top1"),
        (
            lambda model: model.score_file("a.csv", "b.csv", probabilities=0),
            emotion.ConfigError,
            "probabilities=0: must be 'none', 'all' or a number of labels, at least 1",
        ),
        (
            lambda model: model.score_file([], "b.csv"),
            emotion.DataError,
            "inputs: is an empty list; give at least one file or pattern",
        ),
        (
            lambda model: emotion.load("runs/none", backend="tpu"),
            emotion.ConfigError,
            "backend='tpu': must be one of auto, torch, onnx, numpy",
        ),
    ],
)
def test_a_mistake_is_named(call, error, message, model):
    with pytest.raises(error) as caught:
        call(model)
    assert str(caught.value) == message
    assert isinstance(caught.value, (emotion.EmotionError, TypeError))


def test_an_output_that_exists_is_kept_unless_the_call_says_otherwise(model, tmp_path):
    source, output = tmp_path / "--output.csv", tmp_path / "scored.csv"  # a file that is called like an option
    source.write_text("text\nok\n")
    output.write_text("mine\n")
    with pytest.raises(emotion.ConfigError) as caught:
        model.score_file(source, output)
    assert str(caught.value) == f"output {output}: exists already; choose another name, or give overwrite=True"
    assert output.read_text() == "mine\n" and model.score_file(source, output, overwrite=True).num_rows == 1
    with pytest.raises(emotion.DataError, match=re.escape(f"inputs {tmp_path / 'none.csv'}: no such file")):
        model.score_file(tmp_path / "none.csv", tmp_path / "other.csv")
    with pytest.raises(emotion.DataError, match=r"--output\.csv: text_column='zz' is not among its columns \['text'\]"):
        model.score_file(source, tmp_path / "other.csv", text_column="zz")


def test_what_is_not_a_model_is_refused(tmp_path):
    with pytest.raises(emotion.ModelError, match=r"^location runs/none: no such folder"):
        emotion.load("runs/none")
    with pytest.raises(emotion.ModelError, match="no finished model"):
        emotion.load(tmp_path)


def test_a_command_in_a_message_is_one_that_works(tiny_run):
    with pytest.raises(emotion.ModelError, match=re.escape(f"`python export.py --model {tiny_run} --onnx`")):
        emotion.load(tiny_run, backend="onnx")
