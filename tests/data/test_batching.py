import numpy as np
import pytest
import torch

from emotion.data.batching import LengthBucketSampler, TokenizedTexts, batch_by_length, split_batch
from emotion.errors import DataError

LENGTHS = np.random.default_rng(0).integers(3, 60, size=1_003)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1_003, 5_000])
def test_epoch_contains_every_row_once(batch_size):
    sampler = LengthBucketSampler(LENGTHS, batch_size, seed=3)
    batches = sampler.lay_out(epoch=2)
    assert sorted(np.concatenate(batches)) == list(range(1_003))
    assert len(batches) == sampler.num_batches == -(-1_003 // batch_size)
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1


def test_layout_depends_on_seed_and_epoch_only():
    def list_rows(seed, epoch):
        return np.concatenate(LengthBucketSampler(LENGTHS, 32, seed).lay_out(epoch)).tolist()

    assert list_rows(1, 0) == list_rows(1, 0)
    assert len({tuple(list_rows(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("num_done", [0, 1, 31, 32, 40, 96])
def test_batches_continue_after_those_that_are_done(num_done):
    sampler = LengthBucketSampler(LENGTHS, 32, seed=0)
    batches = [batch.tolist() for batch in sampler.batches(num_epochs=3)]
    assert sampler.num_batches == 32 and len(batches) == 96
    assert [batch.tolist() for batch in sampler.batches(num_epochs=3, num_done=num_done)] == batches[num_done:]


def test_length_buckets_need_little_padding():
    def compute_padding(batches):
        return 1 - LENGTHS.sum() / sum(LENGTHS[batch].max() * len(batch) for batch in batches)

    bucketed = compute_padding(LengthBucketSampler(LENGTHS, 16, 0).lay_out(0))
    random = compute_padding(np.array_split(np.random.default_rng(0).permutation(len(LENGTHS)), 63))
    assert bucketed < 0.06 < 0.3 < random


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_batch_is_split_across_processes_without_losing_rows(num_processes):
    batch = np.arange(100, 131)
    parts = [split_batch(batch, 2, process, num_processes) for process in range(num_processes)]
    assert {len(micro_batches) for micro_batches in parts} == {2}
    assert sorted(np.concatenate([rows for micro_batches in parts for rows in micro_batches])) == batch.tolist()
    assert all(longer.min() > shorter.max() for longer, shorter in parts)  # the rows of a batch are sorted by length


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_batch_with_fewer_rows_than_micro_batches_has_one_for_each_row(num_processes):
    """An epoch has batches of 31 rows, and of 30, where 32 micro-batches of one row are asked for."""
    batch = np.arange(31)
    parts = [split_batch(batch, 32, process, num_processes) for process in range(num_processes)]
    assert {len(micro_batches) for micro_batches in parts} == {31 // num_processes}
    assert all(0 < len(rows) <= 2 for micro_batches in parts for rows in micro_batches)
    assert sorted(np.concatenate([rows for micro_batches in parts for rows in micro_batches])) == batch.tolist()


def test_batch_with_fewer_rows_than_processes_raises():
    message = "a batch of 3 rows cannot be split across 4 processes: use more training rows or fewer processes"
    with pytest.raises(DataError, match=f"^{message}$"):
        split_batch(np.arange(3), 1, process=3, num_processes=4)


def make_tokens(num_rows=25):
    return TokenizedTexts([[row + 1] * (1 + row % 7) for row in range(num_rows)], pad_token_id=0)


def test_collate_pads_on_the_right_with_the_pad_token():
    batch = make_tokens().collate(np.array([0, 2]), np.eye(25, dtype=bool))
    assert batch.input_ids.tolist() == [[1, 0, 0], [3, 3, 3]]
    assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.labels.dtype == torch.float32 and batch.labels.argmax(1).tolist() == [0, 2]
    assert batch.num_tokens == 4


@pytest.mark.parametrize("num_parts", [1, 2, 4, 100])
def test_split_batch_has_the_same_rows_without_excess_padding(num_parts):
    rows = np.array([6, 0, 3, 8, 5])
    batch = make_tokens().collate(rows, np.eye(25, dtype=bool))
    parts = batch.split(num_parts)
    assert len(parts) == min(num_parts, 5) and np.concatenate([part.row_index for part in parts]).tolist() == rows.tolist()
    for part in parts:
        expected = make_tokens().collate(part.row_index, np.eye(25, dtype=bool))
        assert part.input_ids.equal(expected.input_ids) and part.attention_mask.equal(expected.attention_mask)
        assert part.labels.equal(expected.labels)


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_prediction_batches_contain_every_row_once_longest_first(num_processes):
    tokens = make_tokens()
    parts = [list(batch_by_length(tokens, 4, process, num_processes)) for process in range(num_processes)]
    rows = np.concatenate([batch.row_index for part in parts for batch in part])
    assert sorted(rows) == list(range(25))
    assert len({len(part) for part in parts}) == 1 and all(len(batch.input_ids) > 0 for part in parts for batch in part)
    widths = [batch.input_ids.shape[1] for batch in parts[0]]
    assert widths == sorted(widths, reverse=True)
