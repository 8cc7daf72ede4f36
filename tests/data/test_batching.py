import numpy as np
import pytest
import torch

from emotion.data.batching import LengthBucketSampler, TokenizedTexts, batch_by_length, split_batch
from emotion.errors import DataError

LENGTHS = np.random.default_rng(0).integers(3, 60, size=1_003)


@pytest.mark.parametrize("size", [1, 7, 32, 1_003, 5_000])
def test_an_epoch_holds_every_row_once(size):
    sampler = LengthBucketSampler(LENGTHS, size, seed=3)
    windows = sampler.lay_out(epoch=2)
    assert sorted(np.concatenate(windows)) == list(range(1_003))
    assert len(windows) == sampler.num_batches == -(-1_003 // size)
    sizes = [len(window) for window in windows]
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1


def test_layout_is_a_function_of_seed_and_epoch():
    def flat(seed, epoch):
        return np.concatenate(LengthBucketSampler(LENGTHS, 32, seed).lay_out(epoch)).tolist()

    assert flat(1, 0) == flat(1, 0)
    assert len({tuple(flat(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_buckets_leave_little_padding():
    def padding(windows):
        return 1 - LENGTHS.sum() / sum(LENGTHS[window].max() * len(window) for window in windows)

    bucketed = padding(LengthBucketSampler(LENGTHS, 16, 0).lay_out(0))
    random = padding(np.array_split(np.random.default_rng(0).permutation(len(LENGTHS)), 63))
    assert bucketed < 0.06 < 0.3 < random


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_processes_share_a_window_without_loss(num_processes):
    window = np.arange(100, 131)
    shares = [split_batch(window, 2, process, num_processes) for process in range(num_processes)]
    assert {len(share) for share in shares} == {2}
    assert sorted(np.concatenate([rows for share in shares for rows in share])) == window.tolist()
    assert all(longer.min() > shorter.max() for longer, shorter in shares)  # windows are sorted by length


def test_window_too_small_to_share_is_refused():
    with pytest.raises(DataError, match="gradient_accumulation_steps"):
        split_batch(np.arange(3), 4)


def make_tokens(num_rows=25):
    return TokenizedTexts([[row + 1] * (1 + row % 7) for row in range(num_rows)], pad_token_id=0)


def test_collate_pads_right_with_the_pad_token():
    batch = make_tokens().collate(np.array([0, 2]), np.eye(25, dtype=bool))
    assert batch.input_ids.tolist() == [[1, 0, 0], [3, 3, 3]]
    assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.labels.dtype == torch.float32 and batch.labels.argmax(1).tolist() == [0, 2]
    assert batch.num_tokens == 4


@pytest.mark.parametrize("num_parts", [1, 2, 4, 100])
def test_a_split_batch_is_the_same_rows_no_wider_than_they_are(num_parts):
    rows = np.array([6, 0, 3, 8, 5])
    batch = make_tokens().collate(rows, np.eye(25, dtype=bool))
    parts = batch.split(num_parts)
    assert len(parts) == min(num_parts, 5) and np.concatenate([part.row_index for part in parts]).tolist() == rows.tolist()
    for part in parts:
        alone = make_tokens().collate(part.row_index, np.eye(25, dtype=bool))
        assert part.input_ids.equal(alone.input_ids) and part.attention_mask.equal(alone.attention_mask)
        assert part.labels.equal(alone.labels)


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_prediction_batches_hold_every_row_once_longest_first(num_processes):
    tokens = make_tokens()
    parts = [list(batch_by_length(tokens, 4, process, num_processes)) for process in range(num_processes)]
    rows = np.concatenate([batch.row_index for part in parts for batch in part])
    assert sorted(rows) == list(range(25))
    assert len({len(part) for part in parts}) == 1 and all(len(batch.input_ids) > 0 for part in parts for batch in part)
    widths = [batch.input_ids.shape[1] for batch in parts[0]]
    assert widths == sorted(widths, reverse=True)
