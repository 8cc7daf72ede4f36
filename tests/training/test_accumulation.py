"""Laws of the accumulated gradient: however a batch is split into micro-batches, its gradient is that of the whole batch."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import binary_cross_entropy_with_logits

from emotion.config import TrainingConfig
from emotion.cpu.fast_path import optimize_encoder
from emotion.data.reading import Examples
from emotion.errors import TrainingError
from emotion.training.accumulation import GradientAccumulator, OomBackoff
from emotion.training.losses import build_loss
from emotion.training.optimization import build_optimizer, build_scheduler
from tests.tiny import LABELS, NUM_ROWS, TOKENS, make_model, run_out_of_memory
from train import compute_loss

ALL = list(range(NUM_ROWS))


@pytest.fixture(scope="module")
def model(tiny_bert):
    return make_model(tiny_bert)


def take_step(model, splits, max_rows=NUM_ROWS, backoff=None):
    """Take one step of train.py's loop on a copy of the model; a backward of more than `max_rows` rows runs out of memory.

    Return the copy, its gradients by name, and the step's result.
    """
    settings = TrainingConfig(learning_rate=1e-2, warmup_ratio=0.0, max_grad_norm=0)
    model, accelerator = optimize_encoder(copy.deepcopy(model), torch.device("cpu")), Accelerator(cpu=True)
    optimizer = build_optimizer(model, settings)
    scheduler = build_scheduler(optimizer, 10, settings.warmup_ratio)
    sum_loss = build_loss(settings, Examples([], [], LABELS), torch.device("cpu"))

    def loss_with_little_memory(logits, labels):
        loss = sum_loss(logits, labels)
        loss.register_hook(lambda _: run_out_of_memory() if len(logits) > max_rows else None)  # in the backward, which needs most
        return loss

    accumulator = GradientAccumulator(model.train(), optimizer, accelerator, backoff)
    parts = [TOKENS.collate(np.array(rows), LABELS) for rows in splits]
    num_targets = sum(map(len, splits)) * LABELS.shape[1]
    for micro_batch in accumulator.micro_batches(parts, step=1):
        with accumulator.accumulate():
            accumulator.backward(compute_loss(model, micro_batch, loss_with_little_memory, num_targets))
    result = accumulator.clip_gradients(settings.max_grad_norm)
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    optimizer.step()
    scheduler.step()
    return model, gradients, result


def assert_same_gradients(found, expected, rtol, atol):
    assert found.keys() == expected.keys() and len(expected) > 20
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=rtol, atol=atol, msg=name)


@pytest.mark.parametrize("splits", [[ALL[:6], ALL[6:]], [[i] for i in ALL], [ALL[:1], ALL[1:4], ALL[4:]]])
def test_accumulated_gradient_equals_that_of_the_whole_batch(model, splits):
    _, whole, result = take_step(model, [ALL])
    _, parts, part_result = take_step(model, splits)
    assert part_result.loss == pytest.approx(result.loss, rel=1e-5)
    assert part_result.grad_norm == pytest.approx(result.grad_norm, rel=1e-4)
    assert_same_gradients(parts, whole, rtol=1e-3, atol=1e-6)


def test_gradient_is_that_of_the_mean_loss(model):
    _, gradients, result = take_step(model, [ALL[:5], ALL[5:]])
    plain = copy.deepcopy(model).train()
    batch = TOKENS.collate(np.array(ALL), LABELS)
    loss = binary_cross_entropy_with_logits(plain(**batch.inputs).logits, batch.labels)
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    expected = {name: parameter.grad for name, parameter in plain.named_parameters() if parameter.grad is not None}
    assert_same_gradients(gradients, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("splits", [[ALL], [ALL[:2], ALL[2:]]])  # in the first micro-batch, and after one whose gradients were added
def test_out_of_memory_halves_the_micro_batches_and_changes_nothing_else(model, splits):
    backoff = OomBackoff()
    _, whole, result = take_step(model, splits)
    _, halved, halved_result = take_step(model, splits, max_rows=4, backoff=backoff)
    assert backoff.num_halvings == halved_result.num_halvings == 2 and result.num_halvings == 0
    assert halved_result.loss == pytest.approx(result.loss, abs=1e-6) and halved_result.num_tokens == result.num_tokens
    assert_same_gradients(halved, whole, rtol=0, atol=1e-6)
    _, _, again = take_step(model, splits, max_rows=4, backoff=backoff)
    assert again.num_halvings == 0 and backoff.num_halvings == 2  # the larger micro-batches are not tried again


def test_out_of_memory_with_a_single_row_is_one_line_and_the_weights_are_untouched(model):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TrainingError, match=r"step 1: out of memory with 1 x \d+ tokens: halve training.per_device_batch_size"):
        take_step(model, [ALL], max_rows=0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name])


class Marker:
    """A hook that lives as long as the graph it is registered in."""

    def __call__(self, *_):
        return None


def test_out_of_memory_releases_the_activations(model, monkeypatch):
    """Nothing may hold on to the graph of the failed micro-batch while its halves are computed."""
    graphs, num_alive = [], []
    backward = GradientAccumulator.backward

    def backward_with_marker(self, loss):
        num_alive.append(sum(graph() is not None for graph in graphs))
        marker = Marker()
        loss.grad_fn.register_hook(marker)
        graphs.append(weakref.ref(marker))
        del marker
        backward(self, loss)

    monkeypatch.setattr(GradientAccumulator, "backward", backward_with_marker)
    gc.disable()  # reference counts alone must do
    try:
        take_step(model, [ALL], max_rows=6)
    finally:
        gc.enable()
    assert num_alive == [0, 0, 0]  # for the whole batch, and for its two halves


def test_counts_and_learning_rate(model):
    _, _, result = take_step(model, [ALL[:6], ALL[6:]])
    assert result.num_examples == NUM_ROWS and result.num_tokens == TOKENS.lengths.sum()
    assert result.num_positions == 6 * TOKENS.lengths[:6].max() + 6 * TOKENS.lengths[6:].max()
    assert result.learning_rate == 1e-2


def test_loss_that_is_not_finite_stops_with_step_and_rows_and_untouched_weights(model):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.classifier.bias[0] = float("nan")
    before = copy.deepcopy(broken.bert.state_dict())
    with pytest.raises(TrainingError, match=r"step 1: loss is nan.*\[2, 5, 7\].*learning_rate"):
        take_step(broken, [[7, 2, 5]])
    for name, value in broken.bert.state_dict().items():
        torch.testing.assert_close(value, before[name])
