"""The laws of the window: however it is split, its gradient is that of the whole batch."""

import copy
import threading

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from emotion.training.loop import OomBackoff, predict_logits, train_window
from torch.nn.functional import binary_cross_entropy_with_logits

from emotion.config import LoraConfig, ModelConfig, TrainingConfig
from emotion.data.batching import TokenizedTexts, batch_by_length
from emotion.errors import TrainingError
from emotion.labels import LabelSet
from emotion.modeling.build import build_model, list_head_parameters
from emotion.training.optimization import build_loss, build_optimizer, build_scheduler, compute_pos_weight, group_parameters

GENERATOR = np.random.default_rng(0)
NUM_ROWS = 12
TOKENS = TokenizedTexts([GENERATOR.integers(5, 1_000, size=GENERATOR.integers(3, 20)).tolist() for _ in range(NUM_ROWS)], 0)
LABELS = GENERATOR.random((NUM_ROWS, 4)) < 0.4


@pytest.fixture(scope="module")
def model(tiny_bert):
    label_set = LabelSet(("a", "b", "c", "d"))
    torch.manual_seed(0)
    model, _ = build_model(ModelConfig(str(tiny_bert)), LoraConfig(), label_set, LABELS.mean(axis=0))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def step(model, splits, settings=None, num_rows=NUM_ROWS, most_rows=NUM_ROWS, halving=None):
    settings = settings or TrainingConfig(learning_rate=1e-2, warmup_ratio=0.0, max_grad_norm=0)
    model = copy.deepcopy(model)
    accelerator = Accelerator(cpu=True)
    optimizer = build_optimizer(model, list_head_parameters(model), settings)
    scheduler = build_scheduler(optimizer, 10, settings.warmup_ratio)
    batches = [TOKENS.collate(np.array(rows), LABELS) for rows in splits]
    sum_loss = build_loss(compute_pos_weight(LABELS, settings), torch.device("cpu"))

    def loss_with_little_memory(logits, labels):
        loss = sum_loss(logits, labels)
        loss.register_hook(lambda _: run_out() if len(logits) > most_rows else None)  # in the backward, where memory is shortest
        return loss

    result = train_window(
        model, batches, accelerator, optimizer, scheduler, loss_with_little_memory, settings.max_grad_norm, num_rows, 1, halving
    )
    return model, result


def run_out():
    raise torch.OutOfMemoryError


ALL = list(range(NUM_ROWS))


@pytest.mark.parametrize("splits", [[ALL[:6], ALL[6:]], [[i] for i in ALL], [ALL[:1], ALL[1:4], ALL[4:]]])
def test_accumulated_window_equals_whole_batch(model, splits):
    whole, result = step(model, [ALL])
    parts, part_result = step(model, splits)
    assert part_result.loss == pytest.approx(result.loss, rel=1e-5)
    assert part_result.grad_norm == pytest.approx(result.grad_norm, rel=1e-4)
    for (name, expected), found in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_window_gradient_is_that_of_the_mean_loss(model):
    stepped, result = step(model, [ALL[:5], ALL[5:]])
    plain = copy.deepcopy(model).train()
    batch = TOKENS.collate(np.array(ALL), LABELS)
    loss = binary_cross_entropy_with_logits(plain(**batch.inputs).logits, batch.labels)
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    moved = 0
    for (name, parameter), expected in zip(stepped.named_parameters(), plain.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-3, atol=1e-6, msg=name)
            moved += 1
    assert moved > 20


@pytest.mark.parametrize("splits", [[ALL], [ALL[:2], ALL[2:]]])  # the first time, and after a micro-batch that had its gradients added
def test_out_of_memory_halves_the_micro_batches_and_changes_nothing_else(model, splits):
    halving = OomBackoff()
    whole, result = step(model, splits)
    halved, halved_result = step(model, splits, most_rows=4, halving=halving)
    assert halving.num == halved_result.num_halvings == 2 and result.num_halvings == 0
    assert halved_result.loss == pytest.approx(result.loss, abs=1e-6) and halved_result.num_tokens == result.num_tokens
    moved = 0
    for (name, expected), found, before in zip(whole.named_parameters(), halved.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=1e-6, msg=name)
        moved += not torch.equal(found, before)
    assert moved > 20
    _, again = step(model, splits, most_rows=4, halving=halving)
    assert again.num_halvings == 0 and halving.num == 2  # not tried again


def test_out_of_memory_with_a_single_row_is_one_line_and_the_weights_are_untouched(model):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TrainingError, match=r"step 1: out of memory with 1 x \d+ tokens: halve training.per_device_batch_size"):
        step(model, [ALL], most_rows=0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_counts_and_learning_rate(model):
    _, result = step(model, [ALL[:6], ALL[6:]])
    assert result.num_examples == NUM_ROWS and result.num_tokens == TOKENS.lengths.sum()
    assert result.num_positions == 6 * TOKENS.lengths[:6].max() + 6 * TOKENS.lengths[6:].max()
    assert result.learning_rate == 1e-2


def test_loss_that_is_not_finite_stops_with_step_and_rows_and_untouched_weights(model):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.classifier.bias[0] = float("nan")
    before = copy.deepcopy(broken.bert.state_dict())
    with pytest.raises(TrainingError, match=r"step 1: loss is nan.*\[2, 5, 7\].*learning_rate"):
        step(broken, [[7, 2, 5]], num_rows=3)
    for name, value in broken.bert.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_warmup_rises_to_the_peak_and_falls_to_zero(model):
    optimizer = build_optimizer(model, set(), TrainingConfig(learning_rate=1e-3))
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


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_batch_of_one_equals_batch_of_many(model, batch_size):
    expected = predict_logits(model, batch_by_length(TOKENS, 12), NUM_ROWS, torch.device("cpu"))
    found = predict_logits(model, batch_by_length(TOKENS, batch_size), NUM_ROWS, torch.device("cpu"))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.fixture
def set_num_threads():
    yield torch.set_num_threads
    torch.set_num_threads(1)  # as tests run


@pytest.mark.parametrize("num_threads", [2, 5])
def test_two_batches_are_predicted_at_once_by_half_of_the_threads_each(model, set_num_threads, num_threads):
    expected = predict_logits(model, batch_by_length(TOKENS, 2), NUM_ROWS, torch.device("cpu"))
    set_num_threads(num_threads)
    meeting, shares = threading.Barrier(2, timeout=60), []  # six batches: three meetings

    def meet(*_):
        meeting.wait()
        shares.append(torch.get_num_threads())

    with model.register_forward_pre_hook(meet):
        found = predict_logits(model, batch_by_length(TOKENS, 2), NUM_ROWS, torch.device("cpu"))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert shares == [num_threads // 2] * 6 and torch.get_num_threads() == num_threads


def test_one_batch_has_all_threads(model, set_num_threads):
    set_num_threads(2)
    seen = []
    with model.register_forward_pre_hook(lambda *_: seen.append((threading.get_ident(), torch.get_num_threads()))):
        predict_logits(model, batch_by_length(TOKENS, 12), NUM_ROWS, torch.device("cpu"))
    assert seen == [(threading.get_ident(), 2)]


def test_what_a_thread_raises_is_raised_at_once(model, set_num_threads):
    set_num_threads(2)
    tried = []

    def fail(*_):
        tried.append(1)
        raise KeyError("broken")

    with model.register_forward_pre_hook(fail), pytest.raises(KeyError, match="broken"):
        predict_logits(model, batch_by_length(TOKENS, 1), NUM_ROWS, torch.device("cpu"))
    assert len(tried) <= 4 < NUM_ROWS and torch.get_num_threads() == 2  # what was asked for before it was heard of


def test_prediction_goes_on_in_halves_when_memory_runs_out(model):
    expected = predict_logits(model, batch_by_length(TOKENS, 12), NUM_ROWS, torch.device("cpu"))
    sizes = []

    def need_memory(module, _, inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 3:
            run_out()

    with model.register_forward_pre_hook(need_memory, with_kwargs=True):
        found = predict_logits(model, batch_by_length(TOKENS, 12), NUM_ROWS, torch.device("cpu"))
    assert sorted(sizes) == [3, 3, 3, 3, 6, 6, 12]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_prediction_in_shards_ends_in_one_line_when_memory_runs_out(model):
    sharded = copy.deepcopy(model)
    sharded.unshard = lambda: None  # as `fully_shard` makes it
    with (
        sharded.register_forward_pre_hook(lambda *_: run_out()),
        pytest.raises(TrainingError, match=r"validation: out of memory with 12 x \d+ tokens: halve training.per_device_batch_size"),
    ):
        predict_logits(sharded, batch_by_length(TOKENS, 12), NUM_ROWS, torch.device("cpu"))


def test_processes_predict_parts_that_add_up_to_the_whole(model):
    whole = predict_logits(model, batch_by_length(TOKENS, 2), NUM_ROWS, torch.device("cpu"))
    parts = [predict_logits(model, batch_by_length(TOKENS, 2, process, 3), NUM_ROWS, torch.device("cpu")) for process in range(3)]
    np.testing.assert_array_equal(sum(parts), whole)
