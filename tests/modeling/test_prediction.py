"""Predicted logits do not depend on batches, threads, processes or out-of-memory retries."""

import copy
import threading

import numpy as np
import pytest
import torch

from emotion.data.batching import batch_by_length
from emotion.errors import TrainingError
from emotion.modeling.prediction import predict_logits
from tests.tiny import NUM_ROWS, TOKENS, make_model, run_out_of_memory


@pytest.fixture(scope="module")
def model(tiny_bert):
    return make_model(tiny_bert)


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
def test_two_batches_are_predicted_at_once_on_half_of_the_threads_each(model, set_num_threads, num_threads):
    expected = predict_logits(model, batch_by_length(TOKENS, 2), NUM_ROWS, torch.device("cpu"))
    set_num_threads(num_threads)
    barrier, threads = threading.Barrier(2, timeout=60), []  # passed by two batches at a time, three times

    def wait_for_other(*_):
        barrier.wait()
        threads.append(torch.get_num_threads())

    with model.register_forward_pre_hook(wait_for_other):
        found = predict_logits(model, batch_by_length(TOKENS, 2), NUM_ROWS, torch.device("cpu"))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert threads == [num_threads // 2] * 6 and torch.get_num_threads() == num_threads


def test_a_single_batch_uses_all_threads(model, set_num_threads):
    set_num_threads(2)
    seen = []
    with model.register_forward_pre_hook(lambda *_: seen.append((threading.get_ident(), torch.get_num_threads()))):
        predict_logits(model, batch_by_length(TOKENS, 12), NUM_ROWS, torch.device("cpu"))
    assert seen == [(threading.get_ident(), 2)]


def test_an_error_in_a_thread_stops_the_prediction(model, set_num_threads):
    set_num_threads(2)
    started = []

    def fail(*_):
        started.append(1)
        raise KeyError("broken")

    with model.register_forward_pre_hook(fail), pytest.raises(KeyError, match="broken"):
        predict_logits(model, batch_by_length(TOKENS, 1), NUM_ROWS, torch.device("cpu"))
    assert len(started) <= 4 < NUM_ROWS and torch.get_num_threads() == 2  # batches that started before the error was raised


def test_a_batch_is_predicted_in_halves_when_memory_runs_out(model):
    expected = predict_logits(model, batch_by_length(TOKENS, 12), NUM_ROWS, torch.device("cpu"))
    sizes = []

    def need_memory(module, _, inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 3:
            run_out_of_memory()

    with model.register_forward_pre_hook(need_memory, with_kwargs=True):
        found = predict_logits(model, batch_by_length(TOKENS, 12), NUM_ROWS, torch.device("cpu"))
    assert sorted(sizes) == [3, 3, 3, 3, 6, 6, 12]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_sharded_model_that_runs_out_of_memory_is_one_line(model):
    sharded = copy.deepcopy(model)
    sharded.unshard = lambda: None  # `fully_shard` adds this method
    with (
        sharded.register_forward_pre_hook(lambda *_: run_out_of_memory()),
        pytest.raises(TrainingError, match=r"validation: out of memory with 12 x \d+ tokens: halve training.per_device_batch_size"),
    ):
        predict_logits(sharded, batch_by_length(TOKENS, 12), NUM_ROWS, torch.device("cpu"))


def test_arrays_of_all_processes_sum_to_the_whole(model):
    whole = predict_logits(model, batch_by_length(TOKENS, 2), NUM_ROWS, torch.device("cpu"))
    parts = [predict_logits(model, batch_by_length(TOKENS, 2, process, 3), NUM_ROWS, torch.device("cpu")) for process in range(3)]
    np.testing.assert_array_equal(sum(parts), whole)
