"""Small encoders answer by numpy as they do by torch, and only they do."""

import json
import math
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.inference.loading import load_predictor
from emotion.inference.model_folder import save_model
from emotion.inference.numpy_predictor import NumpyPredictor, gelu, has_numpy
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Sidecar
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from tests.conftest import infer_cold, run_script

LABELS = LabelSet(("anger", "joy", "fear"))
RULE = DecisionRule((0.5, 0.4, 0.3))
TEXTS = ["I love this so much!", "NA", "so\x85so 🙃", "I am furious. " * 60, "ok", "\t"]


def save(backbone, folder, lora=None):
    """Write the model folder of a fresh head on a backbone, its logits spread out."""
    import torch

    torch.manual_seed(0)
    config = ModelConfig(str(backbone))
    model, tokenizer = build_model(config, lora or LoraConfig(), LABELS, np.full(3, 0.2))
    if lora is None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(10.0 if parameter.ndim > 1 else 1.0)  # fresh weights are so small that all texts would be answered alike
    save_model(folder, model, tokenizer, RULE, Sidecar(LABELS.names, config, 64, "fp32", {}), "card")
    return folder


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_numpy_answers_like_torch(kind, tiny_backbones, tmp_path):
    folder = save(tiny_backbones[kind], tmp_path / "model")
    ours, theirs = NumpyPredictor.load(str(folder)), Predictor.load(str(folder))
    expected = theirs.predict_logits(TEXTS)
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(ours.predict_logits(TEXTS), expected, atol=2e-5)
    np.testing.assert_allclose(ours.predict(TEXTS[3:4]), ours.predict(TEXTS)[3:4], atol=1e-6)  # alone as in company
    assert (ours.label_set, ours.rule, ours.form) == (theirs.label_set, theirs.rule, "numpy")
    assert ours.predict(TEXTS).dtype == np.float32


def test_gelu_is_that_of_the_definition():
    values = np.linspace(-6, 6, 1001, dtype=np.float32)
    expected = [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in values.tolist()]
    np.testing.assert_allclose(gelu(values), expected, atol=1e-6)


def test_others_are_left_to_torch(tiny_backbones, tmp_path):
    adapter = save(tiny_backbones["bert"], tmp_path / "adapter", LoraConfig(r=4))
    decoder = save(tiny_backbones["gemma"], tmp_path / "decoder")
    known = save(tiny_backbones["bert"], tmp_path / "known")
    assert [has_numpy(folder) for folder in (adapter, decoder, known)] == [False, False, True]
    assert load_predictor(str(adapter), "auto", is_brief=True).form == "torch on cpu"
    assert load_predictor(str(known), "auto").form == "torch on cpu"  # many texts
    assert load_predictor(str(known), "auto", is_brief=True).form == "numpy"
    config = known / "config.json"
    plain = json.loads(config.read_text())
    for change in ({"hidden_act": "relu"}, {"is_decoder": True}, {"position_embedding_type": "relative_key"}, {"dtype": "float16"}):
        config.write_text(json.dumps(plain | change))
        assert not has_numpy(known)
    config.write_text("{")
    assert not has_numpy(known)
    with pytest.raises(ModelError, match="only full BERT and DistilBERT classifiers in float32 answer by numpy"):
        load_predictor(str(decoder), "numpy")


def test_a_damaged_folder_is_one_line(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run / "model", tmp_path / "model")
    weights = folder / "model.safetensors"
    lacking = load_file(weights)
    del lacking["classifier.weight"]
    for damage in (lambda: save_file(lacking, weights), lambda: weights.write_bytes(weights.read_bytes()[:1000])):
        damage()
        result = run_script("infer.py", "--model", str(folder), "--text", "a")
        assert result.returncode == 2 and result.stderr.count("\n") == 1 and "cannot be read" in result.stderr
    (folder / "config.json").write_text("{")
    result = run_script("infer.py", "--model", str(folder), "--text", "a")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "config.json" in result.stderr


def test_infer_answers_a_text_without_torch(tiny_run):
    record, said = infer_cold(tiny_run, "--explain", "--text", "I love it")
    expected = Predictor.load(str(tiny_run)).predict(["I love it"])[0]
    assert "(numpy)" in said
    assert list(record["probabilities"].values()) == pytest.approx(sorted(expected, reverse=True), abs=1e-4)
