"""The estimated memory of a run against what the model itself takes."""

from typing import Literal

import numpy as np
import pytest
import torch

from benchmarks.tiny_checkpoints import make_checkpoint
from emotion.config import LoraConfig, ModelConfig
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.modeling.lora import count_parameters
from emotion.planning.memory import SCALE_BYTES, Footprint, count_flops, estimate_footprint
from tests.conftest import FAMILIES

LABELS = LabelSet(tuple("abcd"))
VARIANTS: dict[str, tuple[Literal["none", "nf4"], int]] = {"full": ("none", 0), "lora": ("none", 4), "nf4": ("nf4", 4)}
"""Quantization and `lora.r` of each variant."""


def estimate(folder, variant, **settings):
    quantization, r = VARIANTS[variant]
    config, lora = ModelConfig(str(folder), quantization=quantization, **settings), LoraConfig(r=r)
    return config, lora, estimate_footprint(config, lora, LABELS, "fp32", num_rows=8, num_tokens=20)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_and_weights_are_those_of_the_model(tiny_backbones, family, variant):
    config, lora, footprint = estimate(tiny_backbones[family], variant)
    model, _ = build_model(config, lora, LABELS, np.full(4, 0.2))
    assert (footprint.num_parameters, footprint.num_trainable) == count_parameters(model)
    stored = sum(parameter.nbytes for parameter in model.parameters())
    assert stored <= footprint.weights <= stored * 1.05  # the scales of NF4 are not parameters
    assert footprint.optimizer == 2 * footprint.gradients == 8 * footprint.num_trainable


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model_type", ["gpt2", "gemma3", "canine", "t5"])
def test_the_estimate_is_of_any_architecture(model_type, variant, tmp_path):
    """GPT-2's layers are Conv1D, T5 keeps some layers in float32, Gemma 3 a config for texts within its own, CANINE no word embedding."""
    make_checkpoint(model_type, tmp_path / "base")
    config, lora, footprint = estimate(tmp_path / "base", variant)
    model, _ = build_model(config, lora, LABELS, np.full(4, 0.2))
    num_added = 32 * (model_type == "gpt2")  # the row of the new pad token
    assert footprint.num_parameters == count_parameters(model)[0] - num_added
    stored = sum(parameter.nbytes for parameter in model.parameters()) - 4 * num_added
    assert stored <= footprint.weights <= stored * 1.05 and footprint.activations > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_within_a_factor_of_two_of_what_autograd_stores(tiny_backbones, family):
    config, lora, footprint = estimate(tiny_backbones[family], "full")
    model, _ = build_model(config, lora, LABELS, np.full(4, 0.2))
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    stored: dict[int, int] = {}

    def store(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            stored[tensor.data_ptr()] = tensor.nbytes
        return tensor

    ids = torch.randint(5, 1_000, (8, 20))
    with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
        model.train()(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert 0.5 < footprint.activations / sum(stored.values()) < 2


def test_operations_are_counted_by_hand():
    """Products with 2 x 3 trained weights take 6 operations a weight, with 3 x 4 frozen ones 4; a repeated forward pass takes 2 more."""
    model = torch.nn.Sequential(torch.nn.Embedding(10, 2), torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    model[2].weight.requires_grad = False
    assert count_flops(model, False) == 6 * 6 + 4 * 12 and count_flops(model, True) == 8 * 6 + 6 * 12


def test_gradient_checkpointing_stores_fewer_activations(tiny_backbones):
    plain = estimate(tiny_backbones["mistral"], "lora")[2].activations
    assert estimate(tiny_backbones["mistral"], "lora", gradient_checkpointing=True)[2].activations < plain


def test_a_shard_has_its_part_of_everything_but_activations():
    footprint = Footprint(10, 5, weights=40.0, gradients=20.0, optimizer=40.0, activations=7.0)
    assert footprint.total == 107.0
    assert footprint.shard(2) == Footprint(10, 5, weights=20.0, gradients=10.0, optimizer=20.0, activations=7.0)


def test_nf4_takes_the_bits_per_weight_of_the_paper():
    assert [round(8 * (0.5 + SCALE_BYTES[is_double]), 3) for is_double in (True, False)] == [4.127, 4.5]
