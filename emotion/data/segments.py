"""Split a text that is longer than a model reads at once into overlapping segments, each with its special tokens. Works without torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Segment:
    """A part of a text that a model reads at once."""

    token_ids: list[int]
    offsets: list[tuple[int, int]]
    """Start and end of each token in the text, the same for special ones; empty if the tokenizer does not say."""

    @property
    def span(self) -> tuple[int, int]:
        """Start and end of the segment in the text."""
        spans = [(start, end) for start, end in self.offsets if start < end]
        return min((start for start, _ in spans), default=0), max((end for _, end in spans), default=0)

    def leave_out(self, start: int, end: int) -> list[int] | None:
        """Return the token ids without those from `start` to `end` in the text; None if no token of the text is left."""
        is_out = [first < end and last > start and first < last for first, last in self.offsets]
        has_text = any(first < last and not out for (first, last), out in zip(self.offsets, is_out, strict=True))
        return [token_id for token_id, out in zip(self.token_ids, is_out, strict=True) if not out] if has_text else None


def split_text(tokenizer: Any, text: str, max_length: int, stride: int, has_offsets: bool = False) -> list[Segment]:
    """Return the segments of a text, by a tokenizer of transformers; with their offsets if `has_offsets` and the tokenizer has them.

    A segment has at most `max_length` tokens and shares `stride` of them with the one before it. The first is the text truncated to
    `max_length`.
    """
    if tokenizer.is_fast:
        options = {"truncation": True, "max_length": max_length, "stride": stride, "return_overflowing_tokens": True}
        encoded = tokenizer(text, **options, padding=False, return_attention_mask=False, return_offsets_mapping=has_offsets)
        offsets = encoded.offset_mapping if has_offsets else [[]] * len(encoded.input_ids)
        return [Segment(ids, spans) for ids, spans in zip(encoded.input_ids, offsets, strict=True)]
    # Tokenizers in Python return what does not fit as one list without special tokens.
    content = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    size = max_length - tokenizer.num_special_tokens_to_add(pair=False)
    starts = range(0, max(len(content) - stride, 1), size - stride)
    return [Segment(tokenizer.build_inputs_with_special_tokens(content[start : start + size]), []) for start in starts]


def flatten(segments: list[list[Any]]) -> tuple[list[Any], np.ndarray]:
    """Return the segments of all texts in one list, and the position of each text's first one, int64 (n,)."""
    counts = np.array([len(of_text) for of_text in segments], dtype=np.int64)
    return [segment for of_text in segments for segment in of_text], np.cumsum(counts) - counts


def count_segments(starts: np.ndarray, num_sequences: int) -> np.ndarray:
    """Return the number of segments of each text, int64 (n,), from the positions of the first ones and the number of all."""
    return np.diff(starts, append=num_sequences)


def mark_ends(starts: np.ndarray | None, num_sequences: int) -> np.ndarray:
    """Return 1 for the last sequence of each text, 0 for the others, int64 (m,). Progress counts texts, and the last is the shortest."""
    if starts is None:
        return np.ones(num_sequences, dtype=np.int64)
    ends = np.zeros(num_sequences, dtype=np.int64)
    ends[starts[1:] - 1] = 1
    ends[-1:] = 1
    return ends


def find_stride_fault(stride: int, max_length: int, num_special: int) -> str | None:
    """Return what is wrong with a stride, or None; `num_special` of the `max_length` tokens of a segment are not of the text."""
    limit = max_length - num_special - 1
    return None if stride <= limit else f"must be at most {limit}, so that a segment of {max_length} tokens begins with new ones"
