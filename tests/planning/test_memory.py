"""The estimate of a run's memory against what the model itself holds."""

import numpy as np
import pytest
import torch

from emotion.config import LoraConfig, ModelConfig
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.modeling.lora import count_parameters
from emotion.planning.memory import estimate_footprint
from tests.conftest import KINDS

LABELS = LabelSet(tuple("abcd"))
WAYS = {"full": ("none", 0), "lora": ("none", 4), "nf4": ("nf4", 4)}


def estimate(folder, way, **settings):
    quantization, r = WAYS[way]
    config = ModelConfig(str(folder), quantization=quantization, **settings)
    return config, LoraConfig(r=r), estimate_footprint(config, LoraConfig(r=r), LABELS, "fp32", num_rows=8, num_tokens=20)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_weights_are_those_of_the_model(tiny_backbones, kind, way):
    config, lora, footprint = estimate(tiny_backbones[kind], way)
    model, _ = build_model(config, lora, LABELS, np.full(4, 0.2))
    assert (footprint.parameters, footprint.trained_parameters) == count_parameters(model)
    held = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    assert held <= footprint.weights <= held * 1.05  # what NF4's scales take is not among the parameters
    assert footprint.optimizer == 2 * footprint.gradients == 8 * footprint.trained_parameters


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_of_the_right_size(tiny_backbones, kind):
    """Within a factor of two of what autograd keeps."""
    config, lora, footprint = estimate(tiny_backbones[kind], "full")
    model, _ = build_model(config, lora, LABELS, np.full(4, 0.2))
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    ids = torch.randint(5, 1_000, (8, 20))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert 0.5 < footprint.activations / sum(kept.values()) < 2


def test_checkpointing_keeps_less(tiny_backbones):
    plain = estimate(tiny_backbones["mistral"], "lora")[2].activations
    assert estimate(tiny_backbones["mistral"], "lora", gradient_checkpointing=True)[2].activations < plain
