"""NF4: its layout on every CPU, and its package."""

import numpy as np
import pytest
import torch

from benchmarks.tiny_checkpoints import make_checkpoint
from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ModelError
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.modeling.quantization import is_quantizable


def build_nf4(folder):
    return build_model(ModelConfig(str(folder), quantization="nf4"), LoraConfig(r=4), LabelSet(("a", "b")), np.full(2, 0.5))[0]


def test_layers_are_not_repacked_on_a_cpu_with_avx512_bf16(tiny_backbones, monkeypatch):
    from bitsandbytes.nn import modules

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    model = build_nf4(tiny_backbones["mistral"])
    layers = [module for module in model.modules() if isinstance(module, modules.Linear4bit)]
    before = [layer.weight.data.clone() for layer in layers]
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.inference_mode():
        model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert len(layers) == 14
    assert all(torch.equal(layer.weight.data, weight) for layer, weight in zip(layers, before, strict=True))


def test_the_head_and_its_inner_layers_are_not_quantized():
    names = ["bert.encoder.layer.0.output.dense", "bert.pooler.dense", "classifier", "classifier.dense", "bert.classifier_of_something"]
    skipped = ["classifier", "pooler.dense"]
    assert [is_quantizable(name, skipped) for name in names] == [True, False, False, False, True]


def test_nf4_without_bitsandbytes_is_one_line(tiny_backbones, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs bitsandbytes: pip install") as caught:
        build_nf4(tiny_backbones["bert"])
    assert "\n" not in str(caught.value)


def test_a_model_without_a_layer_for_4_bits_is_refused(tmp_path):
    """Falcon's layers are of a subclass, which bitsandbytes passes over: without the check it trains unquantized."""
    make_checkpoint("falcon", tmp_path / "base")
    with pytest.raises(ModelError) as caught:
        build_model(ModelConfig(str(tmp_path / "base"), quantization="nf4"), LoraConfig(r=4), LabelSet(("a", "b")), np.full(2, 0.3))
    message = "model.quantization=nf4 finds no layer of FalconForSequenceClassification to store in 4 bits; set model.quantization=none"
    assert str(caught.value) == f"{tmp_path / 'base'}: {message}"
