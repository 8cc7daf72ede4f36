"""Which rows are predicted together: batches by a budget of tokens, laid out by length. Works without torch."""

from collections.abc import Iterator

import numpy as np


def batch_by_tokens(lengths: np.ndarray, num_tokens: int) -> Iterator[np.ndarray]:
    """Yield row numbers in batches of about one length, longest first (so that memory runs out at once or never).

    `lengths` is int (n,), tokens of each row; a batch has at most `num_tokens` with its padding, or is a single row.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(int(num_tokens // max(lengths[order[start]], 1)), 1)
        yield order[start : start + size]
        start += size
