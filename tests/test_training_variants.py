"""Laws of the losses and groups in benchmarks/training_variants.py: where a variant's constants turn it off, it is what train.py uses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks import training_variants
from benchmarks.training_variants import (
    asymmetric,
    find_constant_rates,
    format_table,
    group_by_layer,
    label_correlation,
    r_drop,
)
from emotion.config import TrainingConfig
from emotion.data.reading import Examples
from emotion.modeling.heads import list_head_parameters
from emotion.training.losses import build_loss
from emotion.training.optimization import group_parameters
from tests.tiny import LABELS, make_model

LOGITS = torch.linspace(-4, 4, 24).reshape(6, 4)
TARGETS = (torch.arange(24).reshape(6, 4) % 3 == 0).float()


def bce(logits, targets):
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def test_losses_without_their_constants_are_binary_cross_entropy():
    expected = build_loss(TrainingConfig(), Examples([], [], TARGETS.numpy() > 0), torch.device("cpu"))(LOGITS, TARGETS)
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


def test_a_head_starts_where_a_loss_has_its_minimum():
    rows = Examples([], [""] * 5, np.array([[1, 0], [0, 0], [0, 1], [1, 0], [1, 0]], dtype=bool))
    targets = torch.tensor(rows.labels, dtype=torch.float32)
    assert find_constant_rates(bce, TrainingConfig(), rows) == pytest.approx(rows.frequencies, abs=1e-3)
    rates = find_constant_rates(asymmetric, TrainingConfig(), rows)
    assert (rates > rows.frequencies).all()  # negatives count less
    logits = torch.logit(torch.tensor(rates))
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
    from emotion.training import losses, optimization

    for module, name in ((losses, "build_loss"), (losses, "find_base_rates"), (optimization, "build_optimizer")):
        monkeypatch.setattr(module, name, getattr(module, name))
    train = SimpleNamespace(main=lambda: 0, compute_loss=None)
    modules = {"train": train, "emotion.training.optimization": optimization, "emotion.training.losses": losses}
    monkeypatch.setattr(training_variants, "import_module", modules.get)
    monkeypatch.setattr("sys.argv", [])
    assert training_variants.train_variant("asymmetric", ["--config", "x.yaml"]) == 0
    model, rows = make_model(tiny_bert), Examples([], [], np.array(LABELS))
    assert losses.build_loss(TrainingConfig(), rows, torch.device("cpu"))(LOGITS, TARGETS) == asymmetric(LOGITS, TARGETS)
    np.testing.assert_array_equal(losses.find_base_rates(TrainingConfig(), rows), find_constant_rates(asymmetric, TrainingConfig(), rows))
    training_variants.train_variant("frozen-embeddings", [])
    groups = optimization.build_optimizer(model, TrainingConfig()).param_groups
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    assert id(model.get_input_embeddings().weight) not in trained and id(model.classifier.weight) in trained


def test_table_shows_means_and_ranges():
    scores = {"macro_average_precision": [0.4, 0.5], "macro_f1": [0.1, 0.3], "micro_f1": [0.6, 0.6]}
    rest = {"variant": "focal", "difference": -0.0123, "interval": (-0.02, 0.001), "training_seconds": [10, 20]}
    cells = ["focal", "0.450 (0.400-0.500)", "-0.012 (-0.020 to +0.001)", "0.200 (0.100-0.300)", "0.600 (0.600-0.600)", "15"]
    assert format_table([scores | rest])[2] == f"| {' | '.join(cells)} |"
