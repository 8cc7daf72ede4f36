"""Explain predictions: leave-one-out contributions of words.

A word's contribution to a label is how much the label's logit falls when the word is left out. Only logits are needed, so the method works
for full, adapted, 4-bit and ONNX models. Source: Li et al. 2016, "Understanding Neural Networks through Representation Erasure".

Of a text that was split into segments, a word is left out of the segments that contain it; their borders stay. So each word costs one or
two sequences and not the whole text.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emotion.data.segments import Segment
from emotion.evaluation.combination import Combination, combine_logits
from emotion.inference.torch_free import TorchFreePredictor
from emotion.words import find_words

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

MAX_WORDS = 512
"""Words of a text that get a contribution; most models truncate before that. Of a text in segments, groups of adjacent words."""
MAX_SEQUENCES = 2_048
"""Sequences that are predicted for a text in segments where the tokenizer does not say where its tokens are."""


@dataclass(frozen=True)
class Explanation:
    """Contributions of the words of a text, float (words, L), in logits: positive ones support a label, negative ones oppose it."""

    text: str
    spans: list[tuple[int, int]]
    """Start and end of each word in `text`."""
    contributions: np.ndarray
    group_size: int = 1
    """Adjacent words that get a contribution together."""

    @property
    def words(self) -> list[str]:
        return [self.text[start:end] for start, end in self.spans]

    @property
    def limit(self) -> str:
        """What was not tried, because the text is long, as a sentence; empty if each word was left out once."""
        if self.group_size > 1:
            return f"Groups of {self.group_size} words were tried, because the text is long."
        is_cut = len(self.spans) == MAX_WORDS < len(find_words(self.text))
        return f"The first {MAX_WORDS} words were tried." if is_cut else ""


def explain(predictor: "Predictor | TorchFreePredictor", text: str) -> Explanation:
    """Return the contribution of each word of a text to each label."""
    spans, segments = find_words(text), predictor.split(text)
    if segments:
        has_offsets = bool(segments[0].offsets)
        max_groups = MAX_WORDS if has_offsets else min(MAX_WORDS, max(MAX_SEQUENCES // len(segments), 1))
        group_size = max(-(-len(spans) // max_groups), 1)
        groups = group_spans(spans, group_size)
        contributions = _leave_out(predictor, segments, groups) if has_offsets else _leave_out_of_text(predictor, text, groups)
        return Explanation(text, groups, contributions, group_size)
    spans = spans[:MAX_WORDS]
    return Explanation(text, spans, _leave_out_of_text(predictor, text, spans))


def group_spans(spans: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return the spans of groups of `size` adjacent words, the last of which may have fewer."""
    groups = [spans[first : first + size] for first in range(0, len(spans), size)]
    return [(group[0][0], group[-1][1]) for group in groups]


def _leave_out_of_text(predictor: "Predictor | TorchFreePredictor", text: str, spans: list[tuple[int, int]]) -> np.ndarray:
    """Return the contribution of each span of a text, float (spans, L)."""
    variants = [text[:start] + text[end:] for start, end in spans]
    logits = predictor.predict_logits([text, *variants])
    return logits[0] - logits[1:]


def _leave_out(predictor: "Predictor | TorchFreePredictor", segments: list[Segment], spans: list[tuple[int, int]]) -> np.ndarray:
    """Return the contribution of each span of a text in segments, float (spans, L): it is left out of the segments that contain it."""
    begins, ends = (np.array(borders) for borders in zip(*(segment.span for segment in segments), strict=True))
    affected = [np.flatnonzero((begins < end) & (ends > start)) for start, end in spans]
    shortened = [  # a segment of which nothing is left is left out itself
        [ids for row in rows if (ids := segments[row].leave_out(*span)) is not None] for span, rows in zip(spans, affected, strict=True)
    ]
    sequences = [segment.token_ids for segment in segments]
    logits = predictor.predict_sequences(sequences + [ids for variants in shortened for ids in variants])
    whole, variant_logits = np.split(logits, [len(segments)])
    combination, position, contributions = predictor.sidecar.combination, 0, []
    for rows, variants in zip(affected, shortened, strict=True):
        changed = variant_logits[position : position + len(variants)]
        left = np.concatenate([np.delete(whole, rows, axis=0), changed])
        without = _combine(left, combination) if len(left) else predictor.predict_logits([""])[0]
        contributions.append(_combine(whole, combination) - without)
        position += len(variants)
    return np.array(contributions, dtype=np.float32).reshape(-1, logits.shape[1])


def _combine(logits: np.ndarray, combination: Combination) -> np.ndarray:
    """Return the logits of one text, float32 (L,), from those of its segments, (k, L)."""
    return combine_logits(logits, np.zeros(1, dtype=np.int64), combination)[0]
