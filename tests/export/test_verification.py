"""export.py --verify accepts a sound model and fails, with status 1, when one of its variants predicts something else."""

import runpy
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from emotion.config import LoraConfig
from emotion.cpu import fast_path
from emotion.export import verification
from emotion.export.verification import NUM_SHAPE_ROWS, predict_with_transformers, verify_model
from emotion.inference.predictor import Predictor
from tests.conftest import ROOT, run_script
from tests.inference.test_numpy import TEXTS, save

VARIANTS = ["as trained, before saving", "one text at a time", "padded to 128 tokens", "plain transformers model"]
optimize_encoder = fast_path.optimize_encoder


def optimize_wrongly(model, device):
    """Optimize a model so that its logits are 0.01 too high, ten times the bound in fp32."""
    model = optimize_encoder(model, device)
    model.register_forward_hook(add_to_logits)
    return model


def add_to_logits(module, arguments, output):
    output.logits += 0.01


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def find_exceeded(table):
    """Return all variants of a printed table, and those that exceed their bound."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert all(len(row) == 6 for row in rows)
    rows = rows[2:]  # without header and rule
    return [row[0] for row in rows], [row[0] for row in rows if "EXCEEDED" in row[3]]


def test_verify_accepts_a_sound_model(run):
    result = run_script("export.py", "--model", str(run), "--verify")
    assert result.returncode == 0, result.stderr
    variants, exceeded = find_exceeded(result.stdout)
    assert variants == VARIANTS and exceeded == []
    assert result.stdout.strip() in (run / "model" / "README.md").read_text()


def test_verify_fails_when_saved_probabilities_differ(run):
    path = run / "predictions" / "validation.parquet"
    frame = pd.read_parquet(path)
    frame.loc[7, "joy"] = 0.9
    frame.to_parquet(path, index=False)
    result = run_script("export.py", "--model", str(run), "--verify")
    assert result.returncode == 1 and find_exceeded(result.stdout)[1] == VARIANTS[:1]


def test_verify_fails_when_the_fast_path_computes_something_else(run, monkeypatch, capsys):
    """Only saved probabilities and transformers' own model can show it: all other variants use the fast path too."""
    monkeypatch.setattr(fast_path, "optimize_encoder", optimize_wrongly)
    monkeypatch.setattr(sys, "argv", ["export.py", "--model", str(run), "--verify"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "export.py"), run_name="__main__")
    assert stopped.value.code == 1
    variants, exceeded = find_exceeded(capsys.readouterr().out)
    assert variants == VARIANTS and exceeded == [VARIANTS[0], VARIANTS[3]]


@pytest.mark.parametrize("lora", [None, LoraConfig(r=4)], ids=["full", "adapter"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "mistral"])
def test_plain_model_detects_a_wrong_fast_path(family, lora, tiny_backbones, tmp_path, monkeypatch):
    folder = str(save(tiny_backbones[family], tmp_path / "model", lora))
    labels = np.zeros((len(TEXTS), 3), dtype=bool)
    for is_wrong in (False, True):
        monkeypatch.setattr(fast_path, "optimize_encoder", optimize_wrongly if is_wrong else optimize_encoder)
        agreements = verify_model(Predictor.load(folder), folder, TEXTS, labels, None, None)
        variants = [agreement.variant for agreement in agreements]
        assert variants == ["one text at a time", "padded to 64 tokens", VARIANTS[3], *(["merged into the backbone"] if lora else [])]
        exceeded = [agreement.variant for agreement in agreements if not agreement.is_within]
        assert exceeded == ([VARIANTS[3]] if is_wrong else [])


def test_model_that_was_merged_on_another_device_is_compared_on_few_rows(tiny_backbones, tmp_path, monkeypatch):
    folder = str(save(tiny_backbones["bert"], tmp_path / "model", LoraConfig(r=4)))
    predictor = Predictor.load(folder)
    texts = [f"good {number}" for number in range(NUM_SHAPE_ROWS + 6)]
    for device, num_rows in (("cpu", len(texts)), ("elsewhere", NUM_SHAPE_ROWS)):
        merged = SimpleNamespace(device=SimpleNamespace(type=device), predict_logits=predictor.predict_logits)
        monkeypatch.setattr(verification, "merge_model", lambda *_, merged=merged: merged)
        agreement = verify_model(predictor, folder, texts, np.zeros((len(texts), 3), dtype=bool), None, None)[-1]
        assert agreement.variant == "merged into the backbone" and agreement.num_rows == num_rows and agreement.is_within


def test_plain_model_takes_the_rows_in_their_order(tiny_run):
    predictor = Predictor.load(str(tiny_run))
    texts = [f"{'very ' * (number * 37 % 50)}good {number}" for number in range(70)]  # three batches, sorted by length
    logits = predict_with_transformers(predictor, str(tiny_run), texts)
    assert logits.dtype == np.float32 and logits.shape == (70, 28)
    np.testing.assert_allclose(logits, predictor.predict_logits(texts), atol=1e-5)


def test_verify_of_a_model_outside_a_run_needs_labelled_rows(run, tmp_path):
    shutil.move(run / "model", tmp_path / "model")
    result = run_script("export.py", "--model", str(tmp_path / "model"), "--verify")
    assert result.returncode == 2 and "give labelled rows with --input FILE" in result.stderr and "Traceback" not in result.stderr
    (tmp_path / "rows.csv").write_text("body,labels\nI love it,love\nNo!,anger|annoyance\n")
    arguments = ["--input", str(tmp_path / "rows.csv"), "data.text_column=body"]
    result = run_script("export.py", "--model", str(tmp_path / "model"), "--verify", *arguments)
    assert result.returncode == 0 and find_exceeded(result.stdout)[0] == VARIANTS[1:], result.stderr
    result = run_script("export.py", "--model", str(tmp_path / "model"), "--merge", str(tmp_path / "merged"), *arguments)
    assert result.returncode == 2 and "--merge: the model is not in a run folder" in result.stderr
