"""Laws of the losses and groups in benchmarks/training_variants.py: where a variant's constants turn it off, it is what train.py uses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import training_variants
from benchmarks.training_variants import (
    asymmetric,
    bce,
    distribution_balanced,
    fit_constant,
    format_table,
    group_by_layer,
    label_correlation,
    r_drop,
)
from emotion.config import TrainingConfig
from emotion.modeling.heads import list_head_parameters
from emotion.training.optimization import build_loss, group_parameters
from tests.tiny import LABELS, make_model

LOGITS = torch.linspace(-4, 4, 24).reshape(6, 4)
TARGETS = (torch.arange(24).reshape(6, 4) % 3 == 0).float()
FREQUENCIES = torch.tensor([0.5, 0.25, 0.1, 0.01])


def test_losses_without_their_constants_are_binary_cross_entropy():
    expected = build_loss(None, torch.device("cpu"))(LOGITS, TARGETS)
    assert bce(LOGITS, TARGETS) == pytest.approx(expected)
    assert asymmetric(LOGITS, TARGETS, gamma=0, margin=0) == pytest.approx(expected)
    assert label_correlation(LOGITS, TARGETS, weight=0) == pytest.approx(expected)


def test_losses_lay_stress_where_they_say():
    easy, hard = torch.tensor([[-6.0]]), torch.tensor([[1.0]])
    negative = torch.zeros(1, 1)
    assert asymmetric(easy, negative) / asymmetric(hard, negative) < 0.01 * bce(easy, negative) / bce(hard, negative)
    assert asymmetric(torch.tensor([[-4.0]]), negative) == 0  # below the margin of 0.05
    right, wrong = torch.tensor([[2.0, -2.0]]), torch.tensor([[-2.0, 2.0]])
    pairs = [label_correlation(logits, torch.tensor([[1.0, 0.0]]), weight=1).item() for logits in (right, wrong)]
    assert pairs == pytest.approx([2 * np.exp(-0.7616), 2 * np.exp(0.7616)], rel=1e-4)  # twice exp(p of the negative - p of the positive)
    assert label_correlation(LOGITS, torch.zeros(6, 4), weight=1) == 0  # no pairs


def test_a_frequent_label_counts_less_beside_a_rare_one():
    loss = distribution_balanced(FREQUENCIES)
    gradients = []
    for columns in ([0], [0, 3]):
        logits = torch.zeros(1, 4, requires_grad=True)
        targets = torch.zeros(1, 4)
        targets[0, columns] = 1
        loss(logits, targets).backward()
        gradients.append(logits.grad[0, 0].abs().item())
    weights = [0.1 + 1 / (1 + np.exp(-10 * (fraction - 0.2))) for fraction in (1, 2 / 102)]  # of 1 / frequency: all of it, or 2 of 2 + 100
    assert gradients[1] / gradients[0] == pytest.approx(weights[1] / weights[0], rel=1e-4)


def test_biases_start_where_a_loss_has_its_minimum():
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert fit_constant(bce, targets) == pytest.approx(torch.logit(targets.mean(dim=0)), abs=1e-3)
    logits = fit_constant(asymmetric, targets)
    assert (logits > torch.logit(targets.mean(dim=0))).all()  # negatives count less
    lowest = asymmetric(logits.expand_as(targets), targets)
    for step in (-0.1, 0.1):
        assert asymmetric((logits + torch.tensor([step, 0.0])).expand_as(targets), targets) > lowest


def test_r_drop_adds_how_far_two_passes_disagree():
    micro_batch = SimpleNamespace(inputs={}, labels=TARGETS)
    passes = iter([LOGITS, LOGITS, LOGITS, LOGITS + 1])

    def model():
        return SimpleNamespace(logits=next(passes))

    agreeing, disagreeing = (r_drop(model, micro_batch, bce, num_targets=24) for _ in range(2))
    assert agreeing == pytest.approx(bce(LOGITS, TARGETS) / 24)
    losses = (bce(LOGITS, TARGETS) + bce(LOGITS + 1, TARGETS)) / 2
    first, second = (torch.distributions.Bernoulli(logits=logits) for logits in (LOGITS, LOGITS + 1))
    divergence = torch.distributions.kl_divergence(first, second).sum() + torch.distributions.kl_divergence(second, first).sum()
    assert disagreeing == pytest.approx((losses + divergence / 2) / 24)


def test_every_layer_has_a_lower_rate_than_the_one_above(tiny_bert):
    model, config = make_model(tiny_bert), TrainingConfig(learning_rate=1e-3, head_learning_rate=1e-2)
    head = list_head_parameters(model)
    rates = {id(parameter): group["lr"] for group in group_by_layer(model, head, config, 0.5) for parameter in group["params"]}
    named = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    last = model.config.num_hidden_layers - 1
    assert all(rate == 1e-2 for name, rate in named.items() if name in head)
    for layer in range(last + 1):
        assert {rate for name, rate in named.items() if f".layer.{layer}." in name} == {1e-3 * 0.5 ** (last - layer)}
    assert {rate for name, rate in named.items() if "embeddings" in name} == {1e-3 * 0.5 ** (last + 1)}
    undecayed = {id(parameter): group["lr"] for group in group_by_layer(model, head, config, 1.0) for parameter in group["params"]}
    assert undecayed == {id(parameter): group["lr"] for group in group_parameters(model, head, config) for parameter in group["params"]}


def test_the_loss_of_a_variant_reaches_the_training(tiny_bert, monkeypatch):
    """`--train` puts the variant where train.py looks for it."""
    from emotion.training import optimization

    for name in ("build_loss", "compute_pos_weight", "group_parameters", "build_optimizer"):
        monkeypatch.setattr(optimization, name, getattr(optimization, name))
    train = SimpleNamespace(main=lambda: 0, compute_loss=None)
    modules = {"train": train, "emotion.training.optimization": optimization}
    monkeypatch.setattr(training_variants, "import_module", modules.get)
    monkeypatch.setattr("sys.argv", [])
    assert training_variants.train_variant("asymmetric", ["--config", "x.yaml"]) == 0
    model = make_model(tiny_bert)
    optimization.build_optimizer(model, TrainingConfig())
    loss = optimization.build_loss(optimization.compute_pos_weight(LABELS, TrainingConfig(), None), torch.device("cpu"))
    assert loss(LOGITS, TARGETS) == asymmetric(LOGITS, TARGETS)
    assert torch.equal(model.classifier.bias, fit_constant(asymmetric, torch.tensor(LABELS, dtype=torch.float32)))
    training_variants.train_variant("frozen-embeddings", [])
    groups = optimization.build_optimizer(model, TrainingConfig()).param_groups
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    assert id(model.get_input_embeddings().weight) not in trained and id(model.classifier.weight) in trained


def test_table_shows_means_and_ranges():
    scores = {"macro_average_precision": [0.4, 0.5], "macro_f1": [0.1, 0.3], "micro_f1": [0.6, 0.6]}
    rest = {"variant": "focal", "difference": -0.0123, "interval": (-0.02, 0.001), "training_seconds": [10, 20]}
    cells = ["focal", "0.450 (0.400-0.500)", "-0.012 (-0.020 to +0.001)", "0.200 (0.100-0.300)", "0.600 (0.600-0.600)", "15"]
    assert format_table([scores | rest])[2] == f"| {' | '.join(cells)} |"
