"""The page answers as `infer.py` and the Python API do; a text that is cut is cut where the model stops reading."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import emotion
from emotion.app.answers import MAX_CHARACTERS, answer_text, explain_text
from emotion.app.models import find_run, load_model, load_models
from emotion.app.thresholds import move_thresholds
from emotion.errors import ConfigError, DataError
from emotion.inference import predictor as torch_predictor
from emotion.inference.explanation import explain
from emotion.inference.loading import load_predictor
from tests.conftest import run_script

TEXT = "Thank you so much, you saved my day!"
LONG = " ".join(f"word{number % 7} is, well, so-so!" for number in range(200))


def test_answer_is_that_of_infer(model):
    result = run_script("infer.py", "--model", model.location, "--text", TEXT, "--json")
    assert result.returncode == 0, result.stderr
    record = answer_text(model, TEXT).to_record()
    assert json.loads(result.stdout) == {
        key: value for key, value in record.items() if key not in ("thresholds", "characters_read", "notes")
    }
    assert record["notes"] == [] and "means little" in answer_text(model, "мне очень грустно").notes[0]
    assert record["characters_read"] == len(TEXT) and list(record["thresholds"]) == list(model.predictor.label_set.names)


@pytest.mark.parametrize("sensitivity", [-2.5, 0, 2.5])
def test_moved_thresholds_decide(model, sensitivity):
    answer = answer_text(model, TEXT, sensitivity)
    probabilities = emotion.load(model.location).predict([TEXT])
    expected = move_thresholds(model.predictor.rule, sensitivity).decide(probabilities)[0]
    assert answer.predictions.tolist() == expected.tolist()
    order = answer.order
    num_given = int(expected.sum())
    assert sorted(order) == list(range(len(expected))) and answer.predictions[order[:num_given]].all()
    for part in (order[:num_given], order[num_given:]):
        assert (np.diff(answer.probabilities[part]) <= 0).all()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_rest_of_a_cut_text_does_not_matter(model, backend):
    predictor = load_predictor(model.location, backend)
    predictor.predict_checked([LONG])  # which tokenizes it again, to see whether it is cut
    num_read = predictor.count_read(LONG)
    assert 0 < num_read < len(LONG)
    whole, part, shorter = predictor.predict([LONG, LONG[:num_read], LONG[: num_read - 5]])
    assert part == pytest.approx(whole, abs=1e-6) and shorter != pytest.approx(whole, abs=1e-6)
    assert predictor.count_read(TEXT) == len(TEXT)
    assert (
        answer_text(load_model(model.location, backend), LONG).num_read
        == num_read
        == load_predictor(model.location, "numpy").count_read(LONG)
    )


def test_a_model_without_a_truncating_tokenizer_reads_all(model):
    predictor = replace(load_predictor(model.location, "torch"), tokenizer=object())
    assert predictor.count_read(LONG) == len(LONG)


def test_only_one_thread_tokenizes(model, monkeypatch):
    """A call of a tokenizer of transformers sets where the next one truncates."""
    served, num_inside, most = load_model(model.location, "torch"), 0, 0

    def watch(function):
        def call(*arguments, **options):
            nonlocal num_inside, most
            num_inside += 1
            most = max(most, num_inside)
            time.sleep(0.01)
            result = function(*arguments, **options)
            num_inside -= 1
            return result

        return call

    for name in ("tokenize", "split_text"):
        monkeypatch.setattr(torch_predictor, name, watch(getattr(torch_predictor, name)))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: answer_text(served, f"{number} {LONG}"[:MAX_CHARACTERS]), range(8)))
    assert most == 1


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_answers_at_the_same_time_are_those_of_one_at_a_time(model, backend):
    served = load_model(model.location, backend)
    texts = [f"{TEXT} {number} {'really ' * (number % 7)}" for number in range(60)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda text: answer_text(served, text).to_record(), texts))
    assert together == [answer_text(served, text).to_record() for text in texts]


def test_explanation_is_that_of_infer_and_of_what_is_read(model):
    expected = explain(model.predictor, TEXT)
    ours = explain_text(model, TEXT)
    assert ours.spans == expected.spans and ours.contributions == pytest.approx(expected.contributions)
    assert explain_text(model, LONG).text == LONG[: model.predictor.count_read(LONG)]


@pytest.mark.parametrize("text", ["", " \n", None, 3, "a" * (MAX_CHARACTERS + 1), "half \ud83d"])
def test_a_text_that_cannot_be_answered_is_one_line(model, text):
    with pytest.raises(DataError, match=r"^text: "):
        answer_text(model, text)


def test_the_longest_text_is_answered(model):
    assert answer_text(model, ("ab " * MAX_CHARACTERS)[:MAX_CHARACTERS]).is_cut


def test_models_are_named_after_their_runs(model, tiny_run, tmp_path):
    assert model.name == "tiny" and model.predictor.backend_name == "numpy"
    assert load_model(str(tiny_run / "model"), "numpy").name == "tiny"
    models = load_models([str(tiny_run), str(tiny_run / "model")], "numpy")
    assert list(models) == ["tiny", str(tiny_run / "model")]
    with pytest.raises(ConfigError, match="give each model once"):
        load_models([str(tiny_run)] * 2, "numpy")


def test_models_of_the_same_name_are_all_served(tiny_run, tmp_path, monkeypatch):
    """Also if the place of one is what the other is called."""
    (tmp_path / "old").mkdir()
    for name in ("first", "old/first"):
        shutil.copytree(tiny_run / "model", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    models = load_models(["old/first", "first"], "numpy")
    assert {name: model.location for name, model in models.items()} == {"first": "old/first", str(tmp_path / "first"): "first"}
    with pytest.raises(ConfigError, match="give each model once"):
        load_models(["first", "./first"], "numpy")


def test_validation_rows_and_reports_of_a_model_outside_a_run(model, tiny_run, tmp_path):
    assert model.validation is not None and model.validation.label_names == model.predictor.label_set.names
    (tmp_path / "copy").symlink_to(tiny_run / "model")
    alone = load_model(str(tmp_path / "copy"), "numpy")
    assert alone.validation is None and alone.name == "tiny"
    assert find_run(str(tiny_run)).path == find_run(str(tiny_run / "model")).path == tiny_run
