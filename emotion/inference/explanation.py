"""Which words carry an answer: leave-one-out contributions.

Source: Li et al. 2016, "Understanding Neural Networks through Representation Erasure": what a label's logit loses when a word is
left out. It asks nothing of the model but answers, so it is the same for full, adapted, 4-bit and ONNX models.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emotion.inference.torch_free import TorchFreePredictor

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]+")
MAX_WORDS = 512
"""Words that are left out in turn; a longer text's others have no contribution: most models do not read so far."""


@dataclass(frozen=True)
class Explanation:
    """Contributions, float (words, L), in units of the logit: positive ones speak for the label, negative ones against it."""

    text: str
    spans: list[tuple[int, int]]
    """Start and end of each word in `text`."""
    contributions: np.ndarray

    @property
    def words(self) -> list[str]:
        return [self.text[start:end] for start, end in self.spans]


def explain(predictor: "Predictor | TorchFreePredictor", text: str) -> Explanation:
    """Return what each word of a text contributes to each label."""
    spans = [match.span() for match in WORD.finditer(text)][:MAX_WORDS]
    variants = [text[:start] + text[end:] for start, end in spans]
    logits = predictor.predict_logits([text, *variants])
    return Explanation(text, spans, logits[0] - logits[1:])
