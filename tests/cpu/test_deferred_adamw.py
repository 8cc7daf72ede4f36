"""DeferredAdamW is AdamW: the same weights and moments once flushed, from any state, and the same bits after a resume."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from benchmarks.tiny_checkpoints import make_checkpoint
from emotion.config import LoraConfig, ModelConfig, TrainingConfig
from emotion.cpu.deferred_adamw import DeferredAdamW, flush_rows
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.training.accumulation import GradientAccumulator
from emotion.training.optimization import build_optimizer, build_scheduler
from emotion.training.state import Progress, TrainState

NUM_STEPS, NUM_ROWS, RATE = 150, 60, 1e-2
GENERATOR = np.random.default_rng(0)
BATCHES = [
    [np.minimum(GENERATOR.zipf(1.3, size=(4, 5)), NUM_ROWS - 10) for _ in range(2)] for _ in range(NUM_STEPS)
]  # some rows in each batch, some now and then, 0 and the last ten never but for padding
for first, _ in BATCHES:
    first[:, 4] = 0
SETTINGS = TrainingConfig(learning_rate=RATE, head_learning_rate=RATE, weight_decay=0.1)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(NUM_ROWS, 8, padding_idx=0)
        self.classifier = nn.Linear(8, 3)
        self.base_model_prefix = "words"

    def get_input_embeddings(self):
        return self.words

    def forward(self, ids):
        return self.classifier(self.words(torch.from_numpy(ids)).mean(dim=1))


class TinyRun:
    """A tiny model and what trains it, step by step, two micro-batches each."""

    def __init__(self, is_deferred):
        self.model, self.accelerator = Tiny(), Accelerator(cpu=True)
        self.optimizer: Any = build_optimizer(self.model, SETTINGS, is_deferred)
        assert isinstance(self.optimizer, DeferredAdamW) == is_deferred
        self.scheduler = build_scheduler(self.optimizer, NUM_STEPS, 0.1)
        self.optimizer = self.accelerator.prepare(self.optimizer)

    def run(self, first=0, last=NUM_STEPS):
        self.model.train()
        for batch in BATCHES[first:last]:
            self.optimizer.zero_grad()
            for ids in batch:
                (self.model(ids) - 1).square().sum().backward()
            clip(self, 5.0)
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
        self.model.eval()(BATCHES[0][0])  # an evaluation forward applies pending updates
        state = self.capture(NUM_STEPS)
        return state.weights | {name: value for name, value in state.optimizer.items() if not name.endswith("pending")}


def clip(training, max_norm):
    """Clip the gradients as training does, and return their norm."""
    accumulator = GradientAccumulator(training.model, training.optimizer, training.accelerator)
    accumulator._rows = np.arange(8)
    return torch.tensor(accumulator.clip_gradients(max_norm).grad_norm)


def assert_close(found, expected):
    assert found.keys() == expected.keys() and len(found) == 3 + 3 * 3
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4 * RATE, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module")
def plain():
    return TinyRun(is_deferred=False).run().collect()


@pytest.fixture(scope="module")
def deferred():
    return TinyRun(is_deferred=True).run()


def test_flushed_weights_and_moments_are_those_of_adamw(plain):
    assert_close(TinyRun(is_deferred=True).run().collect(), plain)


def test_rows_wait_until_they_are_read():
    training = TinyRun(is_deferred=True)
    before = training.model.words.weight.detach().clone()
    training.run(last=20)
    read = np.unique(np.concatenate([ids.ravel() for batch in BATCHES[:20] for ids in batch]))
    unread = np.setdiff1d(np.arange(NUM_ROWS), read)
    assert len(read) > 10 and len(unread) > 10
    assert torch.equal(training.model.words.weight[unread], before[unread])
    training.optimizer.optimizer.flush_pending_updates()
    flushed = training.model.words.weight.detach().clone()
    decayed = flushed[unread] / before[unread]  # by weight decay alone
    assert decayed.max() < 1 and torch.allclose(decayed, decayed.mean().expand_as(decayed), rtol=1e-5)
    training.optimizer.optimizer.flush_pending_updates()
    assert torch.equal(training.model.words.weight, flushed)


@pytest.mark.parametrize(
    "read", [lambda model: model.eval()(BATCHES[0][0]), lambda model: model.state_dict()], ids=["evaluation", "state_dict"]
)
def test_no_reader_sees_weights_with_pending_updates(read, plain):
    """Before an evaluation forward and before `state_dict`, without a call that somebody could forget."""
    training = TinyRun(is_deferred=True).run()
    read(training.model)
    torch.testing.assert_close(training.model.words.weight.detach(), plain["words.weight"], rtol=1e-4, atol=1e-4 * RATE)


def test_reading_applies_pending_updates_once(monkeypatch):
    """Each validation batch is a forward: the second must not go through all rows again, but one after a step must."""
    calls = []
    monkeypatch.setattr("emotion.cpu.deferred_adamw.flush_rows", lambda *given: calls.append(1) or flush_rows(*given))
    training = TinyRun(is_deferred=True).run(last=5)
    for _ in range(3):
        training.model.eval()(BATCHES[0][0])
    assert len(calls) == 1
    training.run(first=5, last=6)
    training.model.eval()(BATCHES[0][0])
    assert len(calls) == 2
    training.restore(training.run(first=6, last=8).capture(8))
    training.model.eval()(BATCHES[0][0])
    assert len(calls) == 3


def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(deferred):
    state = TinyRun(is_deferred=True).run(last=70).capture(70)
    assert any(name.endswith("|pending") for name in state.optimizer)
    resumed = TinyRun(is_deferred=True).restore(state).run(first=70)
    expected = deferred.capture(NUM_STEPS)
    found = resumed.capture(NUM_STEPS)
    for name, value in (expected.weights | expected.optimizer).items():
        assert torch.equal((found.weights | found.optimizer)[name], value), name


@pytest.mark.parametrize("is_deferred_first", [False, True])
def test_a_run_goes_on_from_a_state_of_the_other_kind(is_deferred_first, plain):
    state = TinyRun(is_deferred_first).run(last=70).capture(70)
    assert_close(TinyRun(not is_deferred_first).restore(state).run(first=70).collect(), plain)


@pytest.mark.parametrize("max_norm", [0.1, 1e6, 0])
def test_gradients_are_clipped_as_torch_clips_them(max_norm):
    norms, gradients = [], []
    for is_deferred in (False, True):
        training = TinyRun(is_deferred)
        training.model.train()
        for ids in BATCHES[0]:
            (training.model(ids) - 1).square().sum().backward()
        norms.append(clip(training, max_norm))
        gradients.append([parameter.grad for parameter in training.model.parameters()])
    assert gradients[1][0].is_sparse
    torch.testing.assert_close(norms[1], norms[0])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found.to_dense(), expected)


def test_only_a_trained_plain_embedding_is_deferred(tiny_bert):
    labels, frequencies = LabelSet(("a", "b")), np.full(2, 0.2)
    full, _ = build_model(ModelConfig(str(tiny_bert)), LoraConfig(), labels, frequencies)
    assert isinstance(build_optimizer(full, SETTINGS, is_single_cpu=True), DeferredAdamW)
    assert not isinstance(build_optimizer(full, SETTINGS, is_single_cpu=False), DeferredAdamW)
    adapted, _ = build_model(ModelConfig(str(tiny_bert)), LoraConfig(r=2), labels, frequencies)
    assert not isinstance(build_optimizer(adapted, SETTINGS, is_single_cpu=True), DeferredAdamW)


class Tied(Tiny):
    """Reads its embedding's weights in its head too, in every forward pass; no module but the embedding has them."""

    def forward(self, ids):
        hidden = self.words(torch.from_numpy(ids)).mean(dim=1)
        return self.classifier(hidden + (hidden @ self.words.weight.T) @ self.words.weight)


def test_weights_that_are_read_elsewhere_too_are_stepped_as_adamw_does(monkeypatch):
    """The gradient is then dense."""
    monkeypatch.setattr("tests.cpu.test_deferred_adamw.Tiny", Tied)
    deferred, plain = TinyRun(True).run(last=40).collect(), TinyRun(False).run(last=40).collect()
    assert deferred.keys() >= plain.keys() and len(plain) > 5
    for name, value in plain.items():
        torch.testing.assert_close(deferred[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("model_type", ["t5", "mt5", "umt5"])
def test_an_embedding_that_several_modules_have_is_not_deferred(model_type, tmp_path):
    make_checkpoint(model_type, tmp_path / "base")
    model, tokenizer = build_model(ModelConfig(str(tmp_path / "base")), LoraConfig(), LabelSet(("a", "b")), np.full(2, 0.3))
    optimizer = build_optimizer(model, SETTINGS, True)
    assert type(optimizer) is torch.optim.AdamW
    before = model.get_input_embeddings().weight.detach().clone()
    model(**tokenizer(["one", "two"], padding=True, return_tensors="pt", return_token_type_ids=False)).logits.sum().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    assert not torch.equal(model.get_input_embeddings().weight, before)
