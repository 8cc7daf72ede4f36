"""The schedule, the parameter groups and the weighted loss."""

import numpy as np
import pytest
import torch

from emotion.config import TrainingConfig
from emotion.modeling.heads import list_head_parameters
from emotion.training.optimization import (
    build_loss,
    build_optimizer,
    build_scheduler,
    compute_pos_weight,
    find_base_rates,
    group_parameters,
)
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


def test_pos_weight_is_capped_and_used():
    labels = np.zeros((100, 3), dtype=bool)
    labels[:50, 0] = labels[:20, 1] = labels[:1, 2] = True
    weight = compute_pos_weight(labels, TrainingConfig(pos_weight="auto", pos_weight_cap=10))
    assert weight.tolist() == [1, 4, 10]
    assert compute_pos_weight(labels, TrainingConfig()) is None
    logits, gold = torch.zeros(1, 3), torch.ones(1, 3)
    assert float(build_loss(weight, torch.device("cpu"))(logits, gold)) == pytest.approx(15 * np.log(2))


def test_focal_loss_by_hand():
    """Lin et al. 2017, equation 4; for targets between 0 and 1 Li et al. 2020, equation 2."""
    logits, targets = torch.tensor([[2.0, 2.0, -1.0, 0.5]]), torch.tensor([[1.0, 0.0, 0.3, float("nan")]])
    p, q = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1))
    expected = (1 - p) ** 2 * -np.log(p) + p**2 * -np.log(1 - p) + (0.3 - q) ** 2 * -(0.3 * np.log(q) + 0.7 * np.log(1 - q))
    assert float(build_loss(None, torch.device("cpu"), 2.0)(logits, targets)) == pytest.approx(expected)
    plain = build_loss(None, torch.device("cpu"))(logits, targets)
    assert torch.equal(build_loss(None, torch.device("cpu"), 0.0)(logits, targets), plain) and float(plain) > 5 * expected / 4


@pytest.mark.parametrize("gamma", [1.0, 2.0, 5.0])
def test_focal_loss_has_finite_gradients_at_sure_answers(gamma):
    logits = torch.tensor([[-200.0, -200.0, 200.0, 200.0, 0.0]], requires_grad=True)
    build_loss(None, torch.device("cpu"), gamma)(logits, torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.5]])).backward()
    assert logits.grad.isfinite().all() and logits.grad[0, [0, 3]].tolist() == [0, 0]
    assert logits.grad[0, 1] < -0.9 and logits.grad[0, 2] > 0.9  # what is wrong counts in full


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_base_rates_are_where_the_loss_is_lowest(gamma):
    targets = torch.zeros(200, 3)
    targets[:100, 0] = targets[:20, 1] = targets[:1, 2] = 1
    rates = find_base_rates(targets.mean(dim=0).numpy(), gamma)
    loss_function = build_loss(None, torch.device("cpu"), gamma)
    logits = torch.logit(torch.tensor(rates, dtype=torch.float32)).requires_grad_()
    loss_function(logits.expand(200, 3), targets).backward()
    assert (logits.grad.abs() / 200 < 1e-3).all()
    frequencies = [0.5, 0.1, 0.005]
    assert rates == pytest.approx(frequencies, rel=1e-6) if gamma == 0 else (rates[1:] > frequencies[1:]).all() and rates[0] == 0.5


def test_a_label_that_was_not_annotated_adds_nothing_to_the_loss_and_its_gradient():
    logits = torch.tensor([[1.5, -2.0, 0.3]], requires_grad=True)
    loss_function = build_loss(torch.tensor([1.0, 2.0, 3.0]), torch.device("cpu"))
    loss = loss_function(logits, torch.tensor([[1.0, float("nan"), 0.0]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(np.log1p(np.exp(-1.5)) + np.log1p(np.exp(0.3)))
    assert logits.grad[0, 1] == 0 and (logits.grad[0, [0, 2]] != 0).all()


def test_pos_weight_counts_annotated_rows_only():
    labels, is_judged = np.zeros((2, 40, 2), dtype=bool)
    labels[:10, 0] = labels[:5, 1] = True
    is_judged[:, 0] = is_judged[:15, 1] = True
    assert compute_pos_weight(labels, TrainingConfig(pos_weight="auto"), is_judged).tolist() == [3, 2]
