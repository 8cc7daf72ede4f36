"""4-bit layers answer by the weights they were trained beside, on every CPU."""

import numpy as np
import torch

from emotion.config import LoraConfig, ModelConfig
from emotion.labels import LabelSet
from emotion.modeling.build import build_model


def test_layers_are_not_laid_out_anew_where_bitsandbytes_would(tiny_backbones, monkeypatch):
    from bitsandbytes.nn import modules

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    settings = ModelConfig(str(tiny_backbones["mistral"]), quantization="nf4")
    model, _ = build_model(settings, LoraConfig(r=4), LabelSet(("a", "b")), np.full(2, 0.5))
    layers = [module for module in model.modules() if isinstance(module, modules.Linear4bit)]
    before = [layer.weight.data.clone() for layer in layers]
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.inference_mode():
        model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert len(layers) == 14
    assert all(torch.equal(layer.weight.data, weight) for layer, weight in zip(layers, before, strict=True))
