"""Explain predictions: leave-one-out contributions of words.

A word's contribution to a label is how much the label's logit falls when the word is left out. Only logits are needed, so the method works
for full, adapted, 4-bit and ONNX models. Source: Li et al. 2016, "Understanding Neural Networks through Representation Erasure".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emotion.inference.torch_free import TorchFreePredictor
from emotion.words import find_words

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

MAX_WORDS = 512
"""Words of a text that get a contribution; most models truncate before that."""


@dataclass(frozen=True)
class Explanation:
    """Contributions of the words of a text, float (words, L), in logits: positive ones support a label, negative ones oppose it."""

    text: str
    spans: list[tuple[int, int]]
    """Start and end of each word in `text`."""
    contributions: np.ndarray

    @property
    def words(self) -> list[str]:
        return [self.text[start:end] for start, end in self.spans]


def explain(predictor: "Predictor | TorchFreePredictor", text: str) -> Explanation:
    """Return the contribution of each word of a text to each label."""
    spans = find_words(text)[:MAX_WORDS]
    variants = [text[:start] + text[end:] for start, end in spans]
    logits = predictor.predict_logits([text, *variants])
    return Explanation(text, spans, logits[0] - logits[1:])
