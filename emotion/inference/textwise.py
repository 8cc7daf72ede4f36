"""Predict texts in batches and give each text the answer that it has alone.

Floating-point sums depend on the shape of a batch, so a text's logits differ in the last bits from batch to batch. In one text of a few
hundred that changes a digit of an answer. Here the answer of a batch is kept only if no logits within a margin of its own show another
digit, label or order; otherwise the text is predicted again in a batch of its own. So an answer does not depend on the texts beside it.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from emotion.inference.answers import DIGITS
from emotion.inference.onnx_predictor import CHECK_TEXTS
from emotion.inference.text_checks import TextChecks

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor
    from emotion.inference.torch_free import TorchFreePredictor

Thresholds = Sequence[float] | np.ndarray
MEASURED_TEXTS = (*CHECK_TEXTS, " ".join(CHECK_TEXTS), " ".join(CHECK_TEXTS[:4]))
"""Short and long texts: padding changes sums, too."""
SAFETY = 4.0
"""The margin is this times the largest difference between the logits of `MEASURED_TEXTS` in a batch and alone."""
MIN_MARGIN, MAX_MARGIN = 1e-6, 1e-4
"""Bounds of the margin in logits. With a larger one most texts would be predicted twice, so each is predicted alone: int8, bf16, fp16."""
ROUNDING = 2.0**-21
"""Relative error of two sigmoids in float32, two units in the last place each."""


class TextwisePredictor:
    """A predictor whose answer to a text, in the digits that are shown, does not depend on the texts beside it."""

    def __init__(self, predictor: "Predictor | TorchFreePredictor") -> None:
        self.predictor = predictor
        self.num_repeated = 0
        """Texts that were predicted in a batch and then again alone."""

    @cached_property
    def margin(self) -> float:
        """How far a text's logits in a batch may be from those alone, measured at the first use."""
        return measure_margin(self.predictor)

    @property
    def is_batching(self) -> bool:
        """Whether texts are predicted together: if it is faster, and changes logits so little that few are predicted twice."""
        return self.predictor.is_batch_faster and self.margin <= MAX_MARGIN

    def describe(self) -> str:
        """Return whether texts are predicted together, as a part of a message."""
        if not self.predictor.is_batch_faster:
            return f"each text is predicted alone: {self.predictor.backend_name} is not faster with several"
        if not self.is_batching:
            return f"each text is predicted alone: others in its batch change its logits by up to {self.margin / SAFETY:.0e}"
        return "texts of several requests are predicted together"

    def predict_checked(self, texts: list[str], thresholds: Thresholds) -> tuple[np.ndarray, TextChecks]:
        """Return calibrated probabilities, float32 (n, L), and what is to know about the answers.

        `thresholds` are those that decide, float (L,) or (n, L).
        """
        if len(texts) == 1:
            return self.predictor.predict_checked(texts)
        is_few = len(texts) <= len(MEASURED_TEXTS) and "margin" not in vars(self)  # measuring would take longer than it saves
        if is_few or not self.is_batching:
            return self._predict_alone(texts)
        probabilities, checks = self.predictor.predict_checked(texts)
        rows = np.flatnonzero(find_uncertain(probabilities, thresholds, self.margin))
        for row in rows:
            probabilities[row] = self.predictor.predict([texts[row]])[0]
        self.num_repeated += len(rows)
        return probabilities, checks

    def _predict_alone(self, texts: list[str]) -> tuple[np.ndarray, TextChecks]:
        answers = [self.predictor.predict_checked([text]) for text in texts]
        return np.concatenate([scores for scores, _ in answers]), TextChecks.concatenate([checks for _, checks in answers])


def measure_margin(predictor: "Predictor | TorchFreePredictor") -> float:
    """Return `SAFETY` times the largest difference between a logit in a batch and alone, at least `MIN_MARGIN`."""
    together = predictor.predict_logits(list(MEASURED_TEXTS))
    alone = np.concatenate([predictor.predict_logits([text]) for text in MEASURED_TEXTS])
    return max(SAFETY * float(np.abs(together - alone).max()), MIN_MARGIN)


def find_uncertain(probabilities: np.ndarray, thresholds: Thresholds, margin: float) -> np.ndarray:
    """Return whether logits moved by at most `margin` could change a shown digit, a prediction or the order of labels, bool (n,).

    `probabilities` are float (n, L), `thresholds` (L,) or (n, L).
    """
    values = probabilities.astype(np.float64)
    slack = margin * values * (1 - values) + ROUNDING * values  # the sigmoid's slope times the margin, and its own rounding
    scaled = values * 10**DIGITS
    to_next_digit = np.abs(scaled - np.floor(scaled) - 0.5) / 10**DIGITS
    is_near = (to_next_digit <= slack) | (np.abs(values - np.asarray(thresholds)) <= slack)
    order = values.argsort(axis=1)
    ranked, ranked_slack = np.take_along_axis(values, order, 1), np.take_along_axis(slack, order, 1)
    is_tied = np.diff(ranked) <= ranked_slack[:, 1:] + ranked_slack[:, :-1]
    return is_near.any(axis=1) | is_tied.any(axis=1)
