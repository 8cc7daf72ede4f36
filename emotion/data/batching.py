"""Tokenization, length-bucketed batches, and micro-batches.

A batch is the rows of one optimizer step over all processes. Each process splits its rows of a batch into micro-batches, and a `Batch`
object contains the tensors of one micro-batch. The layout of an epoch depends on (seed, epoch, lengths) only and not on the number of
processes, so a resumed run can compute its position.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from emotion.data.padding import pad_rows
from emotion.data.segments import count_segments, find_stride_fault, flatten, mark_ends, split_text
from emotion.errors import ConfigError, DataError
from emotion.text import is_quiet

BUCKET_BATCHES = 128
"""Number of batches per bucket, that is of batches whose rows are sorted by length together.

With 32 rows per batch, 128 batches give GoEmotions 1.8 % padding (32 batches: 4.6 %), and a bucket still mixes 4,096 random rows.
"""
TOKENIZE_ROWS = 1_000
"""Number of texts per tokenizer call, so that the progress bar advances."""


@dataclass(frozen=True)
class Batch:
    """The tensors of one micro-batch, that is of one forward pass."""

    input_ids: torch.Tensor
    """int64 (b, t)."""
    attention_mask: torch.Tensor
    """int64 (b, t)."""
    labels: torch.Tensor | None
    """float32 (b, L)."""
    row_index: np.ndarray
    """int64 (b,), the position of each row in its split."""

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The keyword arguments of the model's forward pass."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}

    @property
    def num_tokens(self) -> int:
        """Number of tokens without padding."""
        return int(self.attention_mask.sum())

    def split(self, num_parts: int) -> "list[Batch]":
        """Return the rows as at most `num_parts` smaller batches, each padded to its own longest row only."""
        parts = []
        for rows in np.array_split(np.arange(len(self.row_index)), min(num_parts, len(self.row_index))):
            ids, mask, labels = self.input_ids[rows], self.attention_mask[rows], None if self.labels is None else self.labels[rows]
            width = int(mask.sum(dim=1).max())
            parts.append(Batch(ids[:, :width], mask[:, :width], labels, self.row_index[rows]))
        return parts

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device."""
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.attention_mask.to(device, non_blocking=True),
            labels,
            self.row_index,
        )


@dataclass(frozen=True)
class TokenizedTexts:
    """The token ids of each text, without padding, and the id of the padding token.

    Where long texts are split, a row is a segment of a text.
    """

    token_ids: list[list[int]]
    pad_token_id: int
    starts: np.ndarray | None = None
    """Position of each text's first segment in `token_ids`, int64 (n,); None where each row is a text."""

    @property
    def num_texts(self) -> int:
        return len(self.token_ids if self.starts is None else self.starts)

    @property
    def num_segments(self) -> np.ndarray | None:
        """Number of segments of each text, int64 (n,); None where long texts are cut."""
        return None if self.starts is None else count_segments(self.starts, len(self.token_ids))

    @property
    def num_ending(self) -> np.ndarray:
        """Number of texts that end with each row, 0 or 1, int64 (m,)."""
        return mark_ends(self.starts, len(self.token_ids))

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each row, int64 (n,)."""
        return np.array([len(ids) for ids in self.token_ids], dtype=np.int64)

    def collate(self, rows: np.ndarray, labels: np.ndarray | None = None, width: int = 0) -> Batch:
        """Return the given rows, padded to the longest of them and at least to `width`; `labels` is (n, L), for all texts."""
        input_ids, attention_mask = pad_rows(self.token_ids, rows, self.pad_token_id, width)
        row_labels = None if labels is None else torch.from_numpy(labels[rows].astype(np.float32))
        return Batch(torch.from_numpy(input_ids), torch.from_numpy(attention_mask), row_labels, rows)


def tokenize(
    tokenizer: Any, texts: list[str], max_length: int, description: str | None = None, stride: int | None = None
) -> TokenizedTexts:
    """Tokenize texts, truncated to `max_length` tokens; `description` is the title of the progress bar, None disables it.

    With a `stride`, longer texts are split into segments of `max_length` tokens that share `stride` with the one before.

    Raises: ConfigError if segments with this stride would not go forward.
    """
    token_ids: list[list[int]] = []
    with tqdm(total=len(texts), desc=description, disable=description is None or is_quiet(), unit="text", leave=False) as progress:
        for start in range(0, len(texts), TOKENIZE_ROWS):
            chunk = texts[start : start + TOKENIZE_ROWS]
            token_ids += tokenizer(chunk, truncation=True, max_length=max_length, padding=False, return_attention_mask=False).input_ids
            progress.update(len(chunk))
    token_ids = [ids or [tokenizer.pad_token_id] for ids in token_ids]
    if stride is None:
        return TokenizedTexts(token_ids, tokenizer.pad_token_id)
    check_stride(tokenizer, max_length, stride)
    segments = [  # only texts that fill a sequence are tokenized again
        [segment.token_ids for segment in split_text(tokenizer, text, max_length, stride)] if len(ids) >= max_length else [ids]
        for text, ids in zip(texts, token_ids, strict=True)
    ]
    rows, starts = flatten(segments)
    return TokenizedTexts(rows, tokenizer.pad_token_id, starts)


def check_stride(tokenizer: Any, max_length: int, stride: int | None) -> None:
    """Raise a ConfigError if segments with this stride would not go forward; None is for texts that are cut."""
    num_special = tokenizer.num_special_tokens_to_add(pair=False)
    if stride is not None and (fault := find_stride_fault(stride, max_length, num_special)):
        raise ConfigError(f"data.stride={stride}: {fault}; lower it")


@dataclass(frozen=True)
class LengthBucketSampler:
    """Batches of rows of similar length, in random order; each epoch contains every row once.

    `batch_size` is the maximum number of rows per batch. Batch sizes differ by at most one, so no batch is much smaller than the others.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int

    @property
    def num_batches(self) -> int:
        """Number of batches, and so of optimizer steps, per epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def lay_out(self, epoch: int) -> list[np.ndarray]:
        """Return the batches of an epoch (from 0), each an array of row indices sorted by length."""
        generator = np.random.default_rng([self.seed, epoch])
        random_batches = np.array_split(generator.permutation(len(self.lengths)), self.num_batches)
        batches: list[np.ndarray] = []
        for start in range(0, len(random_batches), BUCKET_BATCHES):
            bucket = random_batches[start : start + BUCKET_BATCHES]
            rows = np.concatenate(bucket)
            by_length = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches += np.split(by_length, np.cumsum([len(batch) for batch in bucket])[:-1])
        return [batches[position] for position in generator.permutation(len(batches))]

    def batches(self, num_epochs: int, num_done: int = 0) -> Iterator[np.ndarray]:
        """Yield the batches of `num_epochs` epochs in order, without the first `num_done`."""
        first_epoch, first_batch = divmod(num_done, self.num_batches)
        for epoch in range(first_epoch, num_epochs):
            yield from self.lay_out(epoch)[first_batch if epoch == first_epoch else 0 :]


def split_batch(batch: np.ndarray, num_micro_batches: int, process: int = 0, num_processes: int = 1) -> list[np.ndarray]:
    """Return the micro-batches of one process, longest texts first: `num_micro_batches`, or fewer where the batch has fewer rows.

    Every process gets the same number of micro-batches, and their sizes differ by at most one. DDP exchanges gradients in the last
    micro-batch; an out-of-memory error occurs in the first one, before that.

    Raises: DataError if the batch has fewer rows than there are processes.
    """
    if len(batch) < num_processes:
        raise DataError(
            f"a batch of {len(batch)} rows cannot be split across {num_processes} processes: use more training rows or fewer processes"
        )
    return np.array_split(batch[process::num_processes], min(num_micro_batches, len(batch) // num_processes))[::-1]


def batch_by_length(tokenized: TokenizedTexts, batch_size: int, process: int = 0, num_processes: int = 1) -> Iterator[Batch]:
    """Yield one process's batches for prediction, longest texts first, so that an out-of-memory error occurs at the start.

    Every process gets the same number of batches, because each forward pass of a sharded model needs all processes. A process without
    rows for the last batch gets the shortest text with an empty `row_index`.
    """
    order = np.argsort(-tokenized.lengths, kind="stable")
    for start in range(0, len(order), num_processes * batch_size):
        rows = order[start + process * batch_size :][:batch_size]
        yield tokenized.collate(rows) if len(rows) else replace(tokenized.collate(order[-1:]), row_index=rows)
