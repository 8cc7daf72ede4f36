"""Try a new classifier on two texts before hours are spent on it: it computes logits in training, and padding does not change them."""

from typing import Any

import numpy as np
import torch

from emotion.data.batching import TokenizedTexts, tokenize
from emotion.errors import ModelError
from emotion.text import describe_error

TEXTS = ["ok", "I can't believe you did this for me, thank you so much!"]
"""A short text and a longer one, so that the first is padded."""
MAX_LENGTH = 16
MAX_CHANGE = {torch.float32: 1e-3}
"""Largest change of a logit by padding, relative to the largest logit, by dtype: far above rounding, far below what another token gives."""
MAX_CHANGE_ELSEWHERE = 0.5
"""In bf16 and fp16, where rounding can send a token to another expert."""


def try_model(model: Any, tokenizer: Any, location: str) -> None:
    """Check that a new classifier can be trained on padded texts.

    Raises: ModelError if its forward pass fails, or its answer to a text depends on the padding behind it.
    """
    tokenized, is_training, dtype = tokenize(tokenizer, TEXTS, MAX_LENGTH), model.training, next(model.parameters()).dtype
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            _compute_logits(model.train(), tokenized, np.arange(len(TEXTS)))
            together = _compute_logits(model.eval(), tokenized, np.arange(len(TEXTS)))
            alone = torch.cat([_compute_logits(model, tokenized, np.array([row])) for row in range(len(TEXTS))])
    except Exception as error:  # each architecture raises its own
        raise ModelError(
            f"{location}: {type(model).__name__} cannot be trained here ({describe_error(error)}); give another backbone"
        ) from None
    finally:
        model.train(is_training)
    if together.shape != alone.shape or together.ndim != 2:
        raise ModelError(
            f"{location}: {type(model).__name__} gives logits of shape {tuple(together.shape)}, not (texts, labels); give another backbone"
        )
    change = float((together - alone).abs().max() / alone.abs().max().clamp(min=1e-6))
    if not change <= MAX_CHANGE.get(dtype, MAX_CHANGE_ELSEWHERE):
        raise ModelError(
            f"{location}: the answers of {type(model).__name__} to a text change with the padding behind it, so they would depend on the "
            "texts beside it; give another backbone"
        )


def _compute_logits(model: Any, tokenized: TokenizedTexts, rows: np.ndarray) -> torch.Tensor:
    """Return the logits of the rows, padded to the longest of them, float32 (n, L)."""
    device = next(model.parameters()).device
    return model(**tokenized.collate(rows).to(device).inputs).logits.float().cpu()
