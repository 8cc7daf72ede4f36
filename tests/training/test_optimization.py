"""The schedule and the parameter groups."""

import pytest

from emotion.config import TrainingConfig
from emotion.modeling.heads import list_head_parameters
from emotion.training.optimization import build_optimizer, build_scheduler, group_parameters
from tests.tiny import make_model


@pytest.fixture(scope="module")
def model(tiny_bert):
    return make_model(tiny_bert)


def test_warmup_rises_to_the_peak_and_falls_to_zero(model):
    optimizer = build_optimizer(model, TrainingConfig(learning_rate=1e-3))
    scheduler = build_scheduler(optimizer, 100, 0.1)
    rates = []
    for _ in range(101):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[0] == 0 and max(rates) == rates[10] == pytest.approx(1e-3) and rates[100] == 0
    assert rates[55] == pytest.approx(0.5e-3)


def test_parameter_groups(model):
    settings = TrainingConfig(learning_rate=1e-4, head_learning_rate=1e-3, weight_decay=0.1)
    groups = group_parameters(model, list_head_parameters(model), settings)
    by_id = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    parameters = dict(model.named_parameters())
    assert len(by_id) == len(parameters) > 20
    for name, parameter in parameters.items():
        rate, decay = by_id[id(parameter)]
        assert rate == (1e-3 if name.startswith("classifier") else 1e-4), name
        assert decay == (0 if name.endswith("bias") or "LayerNorm" in name else 0.1), name
