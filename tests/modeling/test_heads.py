"""The classification head: which parameters belong to it, and its calibration."""

import numpy as np
import pytest
import torch

from emotion.errors import ModelError
from emotion.evaluation.calibration import Calibration
from emotion.modeling.heads import calibrated_head, find_head, list_head_modules, list_head_parameters
from tests.tiny import make_model


@pytest.fixture
def model(tiny_bert):
    return make_model(tiny_bert).eval()


def test_head_parameters_are_those_outside_the_backbone(model):
    assert list_head_parameters(model) == {"classifier.weight", "classifier.bias"}
    assert list_head_modules(model) == ["classifier"]


def test_a_model_without_a_layer_for_its_labels_is_refused(model):
    model.config.num_labels = 7
    with pytest.raises(ModelError, match="has no linear layer with 7 outputs"):
        find_head(model)


def test_calibrated_head_scales_and_shifts_the_logits_and_restores_the_weights(model):
    inputs = {"input_ids": torch.arange(5, 15)[None]}
    expected, weights = model(**inputs).logits, {name: value.clone() for name, value in model.state_dict().items()}
    scales, shifts = np.linspace(0.5, 2, expected.shape[1]), np.linspace(-1, 3, expected.shape[1])
    with calibrated_head(model, Calibration(scales, shifts)):
        calibrated = Calibration(scales, shifts).apply(expected.detach().numpy())
        np.testing.assert_allclose(model(**inputs).logits.detach(), calibrated, atol=1e-5)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_calibrated_head_restores_the_weights_after_an_error(model):
    before = find_head(model).weight.clone()
    with pytest.raises(KeyError), calibrated_head(model, Calibration(np.full(len(before), 1.7), np.full(len(before), 0.2))):
        raise KeyError
    assert torch.equal(find_head(model).weight, before)
