"""Deferring is AdamW: the same weights and moments once settled, from any state, and in the same bits after a resume."""

import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from emotion.config import LoraConfig, ModelConfig, TrainingConfig
from emotion.cpu.deferred_adamw import DeferredAdamW, _unwrap, find_embedding, settle
from emotion.distributed.sharding import clip_gradients
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.training.optimization import build_optimizer, build_scheduler
from emotion.training.state import Progress, TrainState

NUM_STEPS, NUM_ROWS, RATE = 150, 60, 1e-2
GENERATOR = np.random.default_rng(0)
WINDOWS = [
    [np.minimum(GENERATOR.zipf(1.3, size=(4, 5)), NUM_ROWS - 10) for _ in range(2)] for _ in range(NUM_STEPS)
]  # some rows in each window, some now and then, 0 and the last ten never but for padding
for first, _ in WINDOWS:
    first[:, 4] = 0
SETTINGS = TrainingConfig(learning_rate=RATE, head_learning_rate=RATE, weight_decay=0.1)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(NUM_ROWS, 8, padding_idx=0)
        self.head = nn.Linear(8, 3)

    def get_input_embeddings(self):
        return self.words

    def forward(self, ids):
        return self.head(self.words(torch.from_numpy(ids)).mean(dim=1))


class Training:
    """A tiny model and what trains it, step by step, two micro-batches each."""

    def __init__(self, may_defer):
        self.model, self.accelerator = Tiny(), Accelerator(cpu=True)
        self.optimizer = build_optimizer(self.model, set(), SETTINGS, may_defer)
        self.scheduler = build_scheduler(self.optimizer, NUM_STEPS, 0.1)
        self.optimizer = self.accelerator.prepare(self.optimizer)

    def run(self, first=0, last=NUM_STEPS):
        self.model.train()
        for window in WINDOWS[first:last]:
            self.optimizer.zero_grad()
            for ids in window:
                (self.model(ids) - 1).square().sum().backward()
            clip_gradients(self.model, self.optimizer, self.accelerator, 5.0)
            self.optimizer.step()
            self.scheduler.step()
        return self

    def capture(self, step):
        progress = Progress(step, 0, 8, {}, {}, {})
        return copy.deepcopy(TrainState.capture(progress, self.model, self.optimizer, self.accelerator, None))

    def restore(self, state):
        copy.deepcopy(state).restore(self.model, self.optimizer, self.scheduler, self.accelerator)
        return self

    def collect(self):
        """Weights and moments, by name."""
        settle(self.optimizer)
        state = self.capture(NUM_STEPS)
        return state.weights | {name: value for name, value in state.optimizer.items() if not name.endswith("pending")}


def assert_close(found, expected):
    assert found.keys() == expected.keys() and len(found) == 3 + 3 * 3
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4 * RATE, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module")
def plain():
    training = Training(may_defer=False).run()
    assert _unwrap(training.optimizer) is None
    return training.collect()


@pytest.fixture(scope="module")
def deferred():
    return Training(may_defer=True).run()


def test_settled_weights_and_moments_are_those_of_adamw(plain):
    assert_close(Training(may_defer=True).run().collect(), plain)


def test_rows_wait_until_they_are_read():
    training = Training(may_defer=True)
    before = training.model.words.weight.detach().clone()
    training.run(last=20)
    read = np.unique(np.concatenate([ids.ravel() for window in WINDOWS[:20] for ids in window]))
    unread = np.setdiff1d(np.arange(NUM_ROWS), read)
    assert len(read) > 10 and len(unread) > 10
    assert torch.equal(training.model.words.weight[unread], before[unread])
    settle(training.optimizer)
    settled = training.model.words.weight.detach().clone()
    shrunk = settled[unread] / before[unread]  # by weight decay alone
    assert shrunk.max() < 1 and torch.allclose(shrunk, shrunk.mean().expand_as(shrunk), rtol=1e-5)
    settle(training.optimizer)
    assert torch.equal(training.model.words.weight, settled)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(deferred):
    state = Training(may_defer=True).run(last=70).capture(70)
    assert any(name.endswith("|pending") for name in state.optimizer)
    resumed = Training(may_defer=True).restore(state).run(first=70)
    expected = deferred.capture(NUM_STEPS)
    found = resumed.capture(NUM_STEPS)
    for name, value in (expected.weights | expected.optimizer).items():
        assert torch.equal((found.weights | found.optimizer)[name], value), name


@pytest.mark.parametrize("defers_first", [False, True])
def test_a_run_goes_on_from_a_state_of_the_other_kind(defers_first, plain):
    state = Training(defers_first).run(last=70).capture(70)
    assert_close(Training(not defers_first).restore(state).run(first=70).collect(), plain)


@pytest.mark.parametrize("max_norm", [0.1, 1e6, 0])
def test_gradients_are_clipped_as_torch_clips_them(max_norm):
    norms, gradients = [], []
    for may_defer in (False, True):
        training = Training(may_defer)
        training.model.train()
        for ids in WINDOWS[0]:
            (training.model(ids) - 1).square().sum().backward()
        norms.append(clip_gradients(training.model, training.optimizer, training.accelerator, max_norm))
        gradients.append([parameter.grad for parameter in training.model.parameters()])
    assert gradients[1][0].is_sparse
    torch.testing.assert_close(norms[1], norms[0])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found.to_dense(), expected)


def test_only_a_trained_plain_embedding_is_deferred(tiny_bert):
    labels, frequencies = LabelSet(("a", "b")), np.full(2, 0.2)
    full, _ = build_model(ModelConfig(str(tiny_bert)), LoraConfig(), labels, frequencies)
    assert find_embedding(full) is full.get_input_embeddings()
    adapted, _ = build_model(ModelConfig(str(tiny_bert)), LoraConfig(r=2), labels, frequencies)
    assert find_embedding(adapted) is None
    assert not isinstance(build_optimizer(adapted, set(), SETTINGS, may_defer=True), DeferredAdamW)
