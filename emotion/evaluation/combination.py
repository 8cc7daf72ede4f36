"""Logits of a text that was split into segments, from those of its segments."""

from typing import Literal, get_args

import numpy as np

Combination = Literal["mean", "max"]
COMBINATIONS: tuple[Combination, ...] = get_args(Combination)
DEFAULT_COMBINATION: Combination = "mean"
"""Of more segments, the highest logit is higher by chance alone, the mean is not. Both are compared where rows are enough to tell."""
MIN_SPLIT_ROWS = 50
"""Validation rows with several segments from which on the combination is chosen by their scores."""


def combine_logits(logits: np.ndarray, starts: np.ndarray | None, combination: Combination) -> np.ndarray:
    """Return the logits of texts, float32 (n, L), from those of their segments, (m, L).

    `starts`, int (n,), is the position of each text's first segment; None where each row is a text. The logits of a text with one segment
    are those of the segment, bit by bit.
    """
    if starts is None or len(starts) == len(logits):
        return logits
    if combination == "max":
        return np.maximum.reduceat(logits, starts)
    sums = np.add.reduceat(logits, starts, dtype=np.float64)
    return (sums / np.diff(starts, append=len(logits))[:, None]).astype(logits.dtype)
