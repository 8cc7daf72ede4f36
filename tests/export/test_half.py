"""A model with float16 weights gives the same answers, in torch, numpy and a plain pipeline."""

import json
import shutil

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.uncertainty import score_rows
from emotion.export.verification import MAX_LOGIT_DIFFERENCE
from emotion.files import copy_folder
from emotion.inference.numpy_predictor import NumpyPredictor
from emotion.inference.predictor import Predictor
from emotion.tracking.run_folder import RunFolder
from tests.conftest import copy_run, run_script

MAX_DIFFERENCE = {precision: bound / 4 for precision, bound in MAX_LOGIT_DIFFERENCE.items()}
"""Largest allowed difference of a probability: the slope of the sigmoid is at most 1/4."""
TEXTS = ["I love it", "This is awful, I am so angry", "ok"]


@pytest.fixture(scope="module")
def half(tiny_run, tmp_path_factory):
    run, _ = copy_run(tiny_run, tmp_path_factory.mktemp("tested"), "--split", "test")
    folder = tmp_path_factory.mktemp("half") / "model"
    result = run_script("export.py", "--model", str(run), "--half", str(folder), "hub.license=mit")
    assert result.returncode == 0 and "thresholds were then fitted again" in result.stdout, result.stderr
    return folder


def test_weights_take_half_the_bytes_and_the_config_says_so(half, tiny_run):
    weights, full = (load_file(folder / "model.safetensors") for folder in (half, tiny_run / "model"))
    assert len(weights) > 20 and {value.dtype for value in weights.values()} == {np.dtype(np.float16)}
    assert sum(value.nbytes for value in weights.values()) * 2 == sum(value.nbytes for value in full.values())
    assert json.loads((half / "config.json").read_text())["dtype"] == "float16"


def test_answers_are_those_of_the_full_model_up_to_rounding(half, tiny_run):
    expected = Predictor.load(str(tiny_run)).predict(TEXTS)
    torch_answers, numpy_answers = Predictor.load(str(half)).predict(TEXTS), NumpyPredictor.load(str(half)).predict(TEXTS)
    np.testing.assert_allclose(torch_answers, expected, atol=MAX_DIFFERENCE["fp16"])
    np.testing.assert_allclose(numpy_answers, torch_answers, atol=MAX_DIFFERENCE["fp32"])
    assert np.abs(torch_answers - expected).max() > 0


def test_a_plain_pipeline_gives_the_same_probabilities(half):
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(half), top_k=None)
    scores = {row["label"]: row["score"] for row in classify(TEXTS[:1])[0]}
    predictor = Predictor.load(str(half))
    found = [scores[name] for name in predictor.label_set.names]
    np.testing.assert_allclose(found, predictor.predict(TEXTS[:1])[0], atol=MAX_DIFFERENCE["fp16"])


def test_the_rule_is_that_of_the_smaller_model_and_its_validation_rows_are_kept(half, tiny_run):
    stored, before = RunFolder(half).read_predictions("validation"), RunFolder(tiny_run).read_predictions("validation")
    assert stored.ids == before.ids and np.array_equal(stored.labels, before.labels)
    np.testing.assert_allclose(stored.probabilities, before.probabilities, atol=MAX_DIFFERENCE["fp16"])
    report = json.loads((half / "report" / "validation" / "metrics.json").read_text())
    assert report["decision"]["thresholds"] == list(Predictor.load(str(half)).rule.thresholds)


def test_the_card_has_the_test_scores_of_the_smaller_model_and_its_license(half):
    report = json.loads((half / "report" / "test" / "metrics.json").read_text())
    assert report["decision"]["thresholds"] == list(Predictor.load(str(half)).rule.thresholds)
    assert report["num_rows"] == 400 and report["verdict"]["verdict"]
    stored = RunFolder(half).read_predictions("test")
    predictions = DecisionRule.from_dict(report["decision"], 28, "report").decide(stored.probabilities)
    assert report["at_decision_rule"]["macro_f1"] == pytest.approx(float(score_rows(stored.labels, predictions)["macro_f1"]))
    card = (half / "README.md").read_text()
    assert f"| macro-F1 | {report['at_decision_rule']['macro_f1']:.3f} |" in card and "400 test rows of sample" in card
    front_matter = yaml.safe_load(card.split("---")[1])
    assert (front_matter["license"], front_matter["language"]) == ("mit", "en") and "PATH_OR_ID" in card and str(half) not in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--half", "configs"], "--half configs: exists already; choose another folder, or give --overwrite"),
        (
            ["--half", "new", "--split", "test"],
            "--half: fits the decision rule on the validation rows of the run; leave out --split and --input",
        ),
    ],
)
def test_a_mistake_is_one_line(options, message, tiny_run):
    result = run_script("export.py", "--model", str(tiny_run), *options)
    assert result.returncode == 2 and result.stderr.splitlines()[-1] == f"error: {message}"


def test_a_model_in_another_place_is_refused(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "moved")
    result = run_script("export.py", "--model", str(tmp_path / "moved"), "--half", str(tmp_path / "half"))
    assert result.returncode == 2 and "--half: the model is not in a run folder" in result.stderr


def test_a_copy_of_a_read_only_model_can_be_written(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    for path in [*(run / "model").iterdir(), run / "model"]:
        path.chmod(path.stat().st_mode & 0o555)
    copy_folder(run / "model", tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {path.name for path in (run / "model").iterdir()}
    assert all(path.stat().st_mode & 0o200 for path in [tmp_path / "copy", *(tmp_path / "copy").iterdir()])
    result = run_script("export.py", "--model", str(run), "--half", str(tmp_path / "half"))
    assert result.returncode == 0, result.stderr
    assert all(path.stat().st_mode & 0o200 for path in [tmp_path / "half", *(tmp_path / "half").iterdir()])


@pytest.mark.parametrize("option", [["--half", "new"], ["--onnx"]])
def test_an_adapter_is_refused_without_its_backbone(option, tiny_run, tmp_path):
    """--backbone, which the message on a missing backbone names, is no option of these tasks."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    sidecar = json.loads((run / "model" / "emotion.json").read_text())
    (run / "model" / "config.json").unlink()
    values = sidecar | {"fingerprint": "0", "model": sidecar["model"] | {"backbone": "/nowhere/bert"}}
    (run / "model" / "emotion.json").write_text(json.dumps(values))
    result = run_script("export.py", "--model", str(run), *option, "--quiet")
    assert result.returncode == 2 and "is an adapter" in result.stderr and "--merge FOLDER" in result.stderr
