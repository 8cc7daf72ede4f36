"""The numpy backend computes the logits of torch, for small encoders and for nothing else."""

import json
import math
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.inference.explanation import explain
from emotion.inference.loading import load_predictor
from emotion.inference.model_folder import save_model
from emotion.inference.numpy_predictor import NumpyPredictor, gelu, is_numpy_supported
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Sidecar
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from tests.conftest import infer_cold, run_script

LABELS = LabelSet(("anger", "joy", "fear"))
RULE = DecisionRule((0.5, 0.4, 0.3))
TEXTS = ["I love this so much!", "NA", "so\x85so 🙃", "I am furious. " * 60, "ok", "\t"]


def save(backbone, folder, lora=None):
    """Write the model folder of a new head on a backbone, with logits that differ between texts."""
    import torch

    torch.manual_seed(0)
    config = ModelConfig(str(backbone))
    model, tokenizer = build_model(config, lora or LoraConfig(), LABELS, np.full(3, 0.2))
    if lora is None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(10.0 if parameter.ndim > 1 else 1.0)  # new weights are so small that all texts get nearly the same logits
    save_model(folder, model, tokenizer, RULE, Sidecar(LABELS.names, config, 64, "fp32", {}), "card")
    return folder


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_numpy_logits_equal_those_of_torch(family, tiny_backbones, tmp_path):
    folder = save(tiny_backbones[family], tmp_path / "model")
    by_numpy, by_torch = NumpyPredictor.load(str(folder)), Predictor.load(str(folder))
    expected = by_torch.predict_logits(TEXTS)
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(by_numpy.predict_logits(TEXTS), expected, atol=2e-5)
    np.testing.assert_allclose(by_numpy.predict(TEXTS[3:4]), by_numpy.predict(TEXTS)[3:4], atol=1e-6)  # batch of one = batch of many
    assert (by_numpy.label_set, by_numpy.rule, by_numpy.backend_name) == (by_torch.label_set, by_torch.rule, "numpy")
    assert by_numpy.predict(TEXTS).dtype == np.float32


def test_texts_are_read_as_by_torch_where_a_tokenizer_adds_nothing_and_its_first_token_is_the_unknown_one(tiny_backbones, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backbone = shutil.copytree(tiny_backbones["bert"], tmp_path / "backbone")
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "happy": 2, "day": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(backbone)
    folder = save(backbone, tmp_path / "model")
    by_numpy, by_torch = NumpyPredictor.load(str(folder)), Predictor.load(str(folder))
    expected, checks = by_torch.predict_checked(["happy day", "zq", "\u200b", "\t"])
    probabilities, found = by_numpy.predict_checked(["happy day", "zq", "\u200b", "\t"])
    assert checks.is_unknown.tolist() == found.is_unknown.tolist() and found.is_unknown[:2].tolist() == [False, True]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    explained = explain(by_numpy, "happy").contributions  # without its only word, the text has no token
    assert np.abs(explained).max() > 0.01
    np.testing.assert_allclose(explained, explain(by_torch, "happy").contributions, atol=2e-5)


def test_gelu_equals_its_definition():
    values = np.linspace(-6, 6, 1001, dtype=np.float32)
    expected = [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in values.tolist()]
    np.testing.assert_allclose(gelu(values), expected, atol=1e-6)


def test_auto_uses_torch_for_other_models_and_for_many_texts(tiny_backbones, tmp_path):
    adapter = save(tiny_backbones["bert"], tmp_path / "adapter", LoraConfig(r=4))
    decoder = save(tiny_backbones["gemma"], tmp_path / "decoder")
    encoder = save(tiny_backbones["bert"], tmp_path / "encoder")
    assert [is_numpy_supported(folder) for folder in (adapter, decoder, encoder)] == [False, False, True]
    assert load_predictor(str(adapter), "auto", is_brief=True).backend_name == "torch on cpu"
    assert load_predictor(str(encoder), "auto").backend_name == "torch on cpu"
    assert load_predictor(str(encoder), "auto", is_brief=True).backend_name == "numpy"
    with pytest.raises(ModelError, match="--backend numpy supports full BERT and DistilBERT classifiers in float32 or float16"):
        load_predictor(str(decoder), "numpy")


def test_other_configs_are_not_supported(tiny_backbones, tmp_path):
    folder = save(tiny_backbones["bert"], tmp_path / "model")
    config = folder / "config.json"
    values = json.loads(config.read_text())
    for change in ({"hidden_act": "relu"}, {"is_decoder": True}, {"position_embedding_type": "relative_key"}, {"dtype": "bfloat16"}):
        config.write_text(json.dumps(values | change))
        assert not is_numpy_supported(folder)
    config.write_text("{")
    assert not is_numpy_supported(folder)


def test_a_damaged_folder_is_one_line(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run / "model", tmp_path / "model")
    weights = folder / "model.safetensors"
    incomplete = load_file(weights)
    del incomplete["classifier.weight"]
    damages = {
        "its weights do not have 'classifier.weight' as config.json describes: it is damaged": lambda: save_file(incomplete, weights),
        "cannot be read": lambda: weights.write_bytes(weights.read_bytes()[:1000]),
    }
    for message, damage in damages.items():
        damage()
        result = run_script("infer.py", "--model", str(folder), "--text", "a")
        assert result.returncode == 2 and result.stderr.count("\n") == 1 and message in result.stderr
    (folder / "config.json").write_text("{")
    result = run_script("infer.py", "--model", str(folder), "--text", "a")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "config.json" in result.stderr


def test_infer_predicts_a_text_without_torch(tiny_run):
    record, messages = infer_cold(tiny_run, "--explain", "--text", "I love it")
    expected = Predictor.load(str(tiny_run)).predict(["I love it"])[0]
    assert "(numpy)" in messages
    assert list(record["probabilities"].values()) == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_config_that_describes_other_layers_than_there_are_is_refused(family, backend, tiny_backbones, tmp_path):
    """The model would answer without its last layer, or with a new one."""
    folder = save(tiny_backbones[family], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    key = "num_hidden_layers" if family == "bert" else "n_layers"
    (folder / "config.json").write_text(json.dumps(config | {key: config[key] - 1}))
    message = rf"its weights have \d+ that the model of config\.json lacks, such as '{family}\..*restore the files"
    with pytest.raises(ModelError, match=message):
        load_predictor(str(folder), backend)
    (folder / "config.json").write_text(json.dumps(config | {key: config[key] + 1}))
    with pytest.raises(ModelError, match=rf"its weights do not have '{family}\..* and \d+ more as config.json describes: it is damaged"):
        load_predictor(str(folder), backend)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_weights_that_are_no_numbers_are_an_error_and_no_answer(backend, value, tiny_backbones, tmp_path):
    """One label would never be predicted."""
    folder = save(tiny_backbones["bert"], tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][1] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"the model's logit of 'joy' is {value}: its weights are damaged"):
        load_predictor(str(folder), backend).predict(["ok"])
