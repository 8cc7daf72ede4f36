"""Building a classifier on a backbone, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ConfigError, ModelError
from emotion.labels import LabelSet
from emotion.modeling.build import build_model, check_length, choose_dtype, load_trained
from emotion.modeling.heads import find_head
from emotion.planning.memory import estimate_footprint

LABELS = LabelSet(("anger", "joy", "fear"))
FREQUENCIES = np.array([0.5, 0.1, 0.0])


def build(folder, r=0, precision="fp32", **settings):
    torch.manual_seed(0)
    return build_model(ModelConfig(str(folder), **settings), LoraConfig(r=r), LABELS, FREQUENCIES, precision)


def test_head_is_native_multi_label_and_starts_at_the_log_odds(tiny_bert):
    model, tokenizer = build(tiny_bert)
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.id2label == {0: "anger", 1: "joy", 2: "fear"}
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    probabilities = find_head(model).bias.sigmoid()
    torch.testing.assert_close(probabilities, torch.tensor([0.5, 0.1, 0.001]))


def test_a_head_for_other_labels_is_replaced_and_logged(tiny_bert, tmp_path, caplog):
    model, tokenizer = build(tiny_bert)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    other, _ = build_model(ModelConfig(str(tmp_path)), LoraConfig(), LabelSet(tuple("abcde")), np.full(5, 0.2))
    assert find_head(other).out_features == 5 and "a new head with 5 labels" in caplog.text
    torch.testing.assert_close(other.bert.embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight)


def test_a_backbone_without_head_is_not_loaded_as_a_trained_model(tiny_bert):
    with pytest.raises(ModelError, match="not a trained classifier"):
        load_trained(str(tiny_bert), ModelConfig(), LABELS, "fp32", is_adapter=False)


def test_a_trained_model_with_weights_of_another_shape_is_one_line(tiny_bert, tmp_path):
    model, tokenizer = build(tiny_bert)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["bert.pooler.dense.weight"] = weights["bert.pooler.dense.weight"][:-1].clone()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"its weights do not have 'bert\.pooler\.dense\.weight' as config\.json describes: it is damaged"):
        load_trained(str(tmp_path), ModelConfig(), LABELS, "fp32", is_adapter=False)


def test_a_backbone_with_missing_weights_is_refused(tiny_backbones, tmp_path):
    shutil.copytree(tiny_backbones["distilbert"], tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    missing = next(name for name in weights if "layer.1" in name and "weight" in name)
    save_file(
        {name: value for name, value in weights.items() if name != missing}, tmp_path / "base" / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match="lacks weights of the backbone"):
        build(tmp_path / "base")


def test_a_quantized_checkpoint_is_refused(tiny_backbones, tmp_path):
    shutil.copytree(tiny_backbones["mistral"], tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="already quantized"):
        build(tmp_path / "base", r=4, quantization="nf4")


@pytest.mark.parametrize("r", [0, 4])
def test_fp16_on_a_bf16_backbone_is_refused(tiny_backbones, r):
    with pytest.raises(ModelError, match=r"set training\.precision=bf16"):
        build(tiny_backbones["gemma"], r, "fp16")


def test_flash_attention_without_its_package_is_refused(tiny_backbones):
    with pytest.raises(ModelError, match="needs the package flash-attn"):
        build(tiny_backbones["gemma"], r=4, attention="flash_attention_2")


def test_more_tokens_than_positions_are_refused(tiny_bert):
    model, _ = build(tiny_bert, r=4)
    check_length(model, 128)
    with pytest.raises(ConfigError, match="at most 128 tokens"):
        check_length(model, 129)


def test_frozen_weights_are_stored_in_the_autocast_dtype_and_trained_ones_in_float32():
    assert choose_dtype("bf16", is_frozen=True) == torch.bfloat16
    assert choose_dtype("bf16", is_frozen=False) == torch.float32


def test_a_backbone_whose_activations_cannot_be_recomputed_is_refused(tmp_path):
    """By training and by its plan, before anything is trained; with adapters too."""
    from transformers import AutoConfig, AutoModel

    from tests.conftest import make_word_pieces

    tokenizer = make_word_pieces(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    sizes = {"emb_dim": 32, "n_layers": 1, "n_heads": 2, "pad_token_id": 0, "pad_index": 0, "max_position_embeddings": 128}
    AutoModel.from_config(AutoConfig.for_model("flaubert", vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    config, labels = ModelConfig(str(tmp_path), gradient_checkpointing=True), LabelSet(("a", "b"))
    message = "model.gradient_checkpointing=true: FlaubertForSequenceClassification does not support it; set it to false"
    with pytest.raises(ModelError, match=message):
        build_model(config, LoraConfig(), labels, np.full(2, 0.5))
    with pytest.raises(ModelError, match=message):
        estimate_footprint(config, LoraConfig(r=2), labels, "fp32", 2, 8)
