"""The losses by hand, where their head starts, and what a label that was not annotated adds to them."""

import numpy as np
import pytest
import torch

from emotion.config import TrainingConfig
from emotion.data.reading import Examples
from emotion.training.losses import BIAS_FACTOR, build_loss, compute_focal, compute_pos_weight, compute_tolerant, find_base_rates, rebalance

NAMES = ("bce", "focal", "distribution_balanced")
LABELS = np.zeros((200, 3), dtype=bool)
LABELS[:100, 0] = LABELS[:20, 1] = LABELS[:2, 2] = True


def make_rows(labels=LABELS, is_judged=None):
    return Examples([str(n) for n in range(len(labels))], [""] * len(labels), labels, is_judged)


def build(loss, rows=None, **settings):
    return build_loss(TrainingConfig(loss=loss, **settings), rows or make_rows(), torch.device("cpu"))


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


def test_pos_weight_is_capped_and_used():
    labels = np.zeros((100, 3), dtype=bool)
    labels[:50, 0] = labels[:20, 1] = labels[:1, 2] = True
    settings = TrainingConfig(pos_weight="auto", pos_weight_cap=10)
    assert compute_pos_weight(labels, settings).tolist() == [1, 4, 10]
    assert compute_pos_weight(labels, TrainingConfig()) is None
    loss_function = build("bce", make_rows(labels), pos_weight="auto", pos_weight_cap=10)
    assert float(loss_function(torch.zeros(1, 3), torch.ones(1, 3))) == pytest.approx(15 * np.log(2))


def test_focal_loss_by_hand():
    """Lin et al. 2017, equation 4; for targets between 0 and 1 Li et al. 2020, equation 2."""
    logits, targets = torch.tensor([[2.0, 2.0, -1.0, 0.5]]), torch.tensor([[1.0, 0.0, 0.3, float("nan")]])
    p, q = sigmoid(2), sigmoid(-1)
    expected = (1 - p) ** 2 * -np.log(p) + p**2 * -np.log(1 - p) + (0.3 - q) ** 2 * -(0.3 * np.log(q) + 0.7 * np.log(1 - q))
    rows = make_rows(np.zeros((1, 4), dtype=bool))
    assert float(build("focal", rows)(logits, targets)) == pytest.approx(expected)
    assert float(build("bce", rows)(logits, targets)) > 5 * expected / 4


def test_distribution_balanced_loss_by_hand():
    """Wu et al. 2020, equations 3, 5, 8 and 9, with the focal factor of Huang et al. 2021."""
    frequencies = np.array([0.5, 0.1, 0.01])
    logits, targets = np.array([1.0, -2.0, -3.0]), np.array([1.0, 0.0, 1.0])
    drawn = 1 / frequencies / (1 / 0.5 + 1 / 0.01)  # how often the row is wanted for each label, of how often it comes
    weights = 0.1 + sigmoid(10 * (drawn - 0.2))
    expected = 0.0
    for logit, target, weight, frequency in zip(logits, targets, weights, frequencies, strict=True):
        moved = logit - 0.05 * np.log(1 / frequency - 1)
        p = sigmoid(moved if target else 2 * moved)
        expected += weight * ((1 - p) ** 2 * -np.log(p) if target else p**2 * -np.log(1 - p) / 2)
    given = [torch.tensor(values[None], dtype=torch.float32) for values in (logits, targets)]
    assert float(build("distribution_balanced")(*given)) == pytest.approx(expected, rel=1e-5)


def test_a_frequent_label_counts_less_beside_a_rare_one_and_a_row_without_labels_in_full():
    frequencies = torch.tensor([0.5, 0.25, 0.1, 0.01])
    alone, beside, neither = rebalance(torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]]), frequencies)
    assert alone[0] == pytest.approx(1.1, abs=1e-3) and beside[0] == pytest.approx(0.1 + sigmoid(10 * (2 / 102 - 0.2)), rel=1e-5)
    assert beside[3] == pytest.approx(1.1, abs=1e-3) and neither.tolist() == pytest.approx([1.1] * 4)


def test_sure_negatives_count_less_than_in_the_focal_loss():
    logits, frequencies = torch.tensor([[-3.0], [1.0]]), torch.tensor([0.5])
    negative = torch.zeros_like(logits)
    ratio = compute_tolerant(logits, negative, frequencies) / compute_focal(logits, negative)
    assert ratio[0] < 0.1 and ratio[1] > 0.9
    positive = torch.ones_like(logits)
    torch.testing.assert_close(compute_tolerant(logits, positive, frequencies), compute_focal(logits, positive))
    rare = torch.tensor([0.01])
    moved = compute_focal(logits + BIAS_FACTOR * torch.logit(rare), positive)
    torch.testing.assert_close(compute_tolerant(logits, positive, rare), moved)


@pytest.mark.parametrize("loss", NAMES)
def test_losses_have_finite_gradients_at_sure_answers(loss):
    logits = torch.tensor([[-200.0, -200.0, 200.0], [200.0, 0.0, 0.0]], requires_grad=True)
    build(loss)(logits, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.5, float("nan")]])).backward()
    assert logits.grad.isfinite().all() and logits.grad[0, 0] == logits.grad[1, 0] == logits.grad[1, 2] == 0
    assert logits.grad[0, 1] < 0 < logits.grad[0, 2]


@pytest.mark.parametrize("is_judged", [None, np.random.default_rng(0).random(LABELS.shape) < 0.6])
@pytest.mark.parametrize("loss", NAMES)
def test_a_head_starts_where_the_loss_is_lowest(loss, is_judged):
    rows = make_rows(LABELS if is_judged is None else LABELS & is_judged, is_judged)
    targets = torch.tensor(rows.labels, dtype=torch.float32)
    targets = targets if is_judged is None else torch.where(torch.tensor(is_judged), targets, torch.nan)
    rates = find_base_rates(TrainingConfig(loss=loss), rows)
    logits = torch.logit(torch.tensor(rates)).float().requires_grad_()
    build(loss, rows)(logits.expand(200, 3), targets).backward()
    assert (logits.grad.abs() / 200 < 1e-3).all()
    if loss == "bce":
        assert rates == pytest.approx(rows.frequencies)
    else:
        assert (rates[1:] > 2 * rows.frequencies[1:]).all()


@pytest.mark.parametrize("loss", NAMES)
def test_a_label_that_was_not_annotated_adds_nothing_to_the_loss_and_its_gradient(loss):
    loss_function = build(loss, pos_weight="auto" if loss == "bce" else "none")
    logits = torch.tensor([[1.5, -2.0, 0.3]], requires_grad=True)
    value = loss_function(logits, torch.tensor([[1.0, float("nan"), 0.0]]))
    value.backward()
    assert logits.grad[0, 1] == 0 and (logits.grad[0, [0, 2]] != 0).all()
    others = loss_function(torch.tensor([[1.5, 9.0, 0.3]]), torch.tensor([[1.0, float("nan"), 0.0]]))
    assert float(others) == float(value.detach())


def test_pos_weight_counts_annotated_rows_only():
    labels, is_judged = np.zeros((2, 40, 2), dtype=bool)
    labels[:10, 0] = labels[:5, 1] = True
    is_judged[:, 0] = is_judged[:15, 1] = True
    assert compute_pos_weight(labels, TrainingConfig(pos_weight="auto"), is_judged).tolist() == [3, 2]
