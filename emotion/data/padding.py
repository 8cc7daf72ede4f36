"""Pad token ids to arrays, and group rows of similar length for prediction. Works without torch."""

from collections.abc import Iterator

import numpy as np


def batch_by_tokens(lengths: np.ndarray, num_tokens: int) -> Iterator[np.ndarray]:
    """Yield batches of row indices of similar length, longest first, so that an out-of-memory error occurs at the start.

    `lengths` is int (n,), the number of tokens of each row. A batch has at most `num_tokens` tokens, padding included, or it is a single
    row.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(int(num_tokens // max(lengths[order[start]], 1)), 1)
        yield order[start : start + size]
        start += size


def pad_rows(token_ids: list[list[int]], rows: np.ndarray, pad_token_id: int, width: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the input ids and the attention mask of the rows, int64 (b, t), padded on the right.

    t is the length of the longest row, and at least `width`.
    """
    width = max(width, *(len(token_ids[row]) for row in rows))
    input_ids = np.full((len(rows), width), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), width), dtype=np.int64)
    for position, row in enumerate(rows):
        ids = token_ids[row]
        input_ids[position, : len(ids)] = ids
        attention_mask[position, : len(ids)] = 1
    return input_ids, attention_mask
