"""One text: its answer, how much of it the model reads, and which words speak for a label."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from emotion.app.models import ServedModel
from emotion.app.thresholds import move_thresholds
from emotion.errors import DataError
from emotion.evaluation.decision import DecisionRule
from emotion.inference.answers import build_record
from emotion.inference.explanation import Explanation, explain
from emotion.inference.text_checks import describe_text
from emotion.text import is_writable_text

MAX_CHARACTERS = 10_000
"""Longest text that the page answers."""
CACHED_EXPLANATIONS = 16
"""An explanation holds all labels, so choosing another label of the same text needs no model."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says about a text."""

    text: str
    model: ServedModel
    rule: DecisionRule
    probabilities: np.ndarray
    """Float32 (L,)."""
    predictions: np.ndarray
    """Bool (L,)."""
    num_read: int
    """Characters from the beginning that the model reads; the text is cut there."""
    notes: list[str]
    """What to know about the answer, such as that the text was cut, or is in a script unknown to the model."""

    @property
    def is_cut(self) -> bool:
        return self.num_read < len(self.text)

    @property
    def order(self) -> list[int]:
        """Columns of the labels: the predicted ones first, both parts by falling probability."""
        return [int(column) for column in np.lexsort((-self.probabilities, ~self.predictions))]

    def to_record(self) -> dict[str, Any]:
        """Return the answer as `infer.py --json` prints it, and the notes, the thresholds and the number of characters read."""
        names = self.model.predictor.label_set.names
        record = build_record(self.text, names, self.probabilities, self.predictions, self.rule, None, None)
        record["thresholds"] = {name: round(threshold, 4) for name, threshold in zip(names, self.rule.thresholds, strict=True)}
        return record | {"notes": self.notes, "characters_read": self.num_read}


def answer_text(model: ServedModel, text: str, sensitivity: float = 0.0) -> Answer:
    """Return the model's answer to a text, with all thresholds lowered by `sensitivity`.

    Raises: DataError for a text that is empty, too long or not valid UTF-8; ConfigError for a sensitivity out of range.
    """
    check_text(text)
    rule = move_thresholds(model.predictor.rule, sensitivity)
    predictor = model.predictor
    probabilities, checks = predictor.predict_checked([text])
    notes = describe_text(text, checks, 0, predictor.sidecar)
    return Answer(text, model, rule, probabilities[0], rule.decide(probabilities)[0], predictor.count_read(text), notes)


def explain_text(model: ServedModel, text: str) -> Explanation:
    """Return what each word adds to each label, of the part of the text that the model reads.

    Raises: DataError as `answer_text`.
    """
    check_text(text)
    return _explain_cached(model, text[: model.predictor.count_read(text)])


def check_text(text: Any) -> None:
    """Raise DataError if a text cannot be answered."""
    if not isinstance(text, str) or not text.strip():
        raise DataError("text: is empty; write something")
    if len(text) > MAX_CHARACTERS:
        raise DataError(f"text: has {len(text):,} characters, at most {MAX_CHARACTERS:,} are answered; shorten it, or score it in a file")
    if not is_writable_text(text):
        raise DataError("text: is not valid UTF-8; leave the broken characters out")


@lru_cache(CACHED_EXPLANATIONS)
def _explain_cached(model: ServedModel, text: str) -> Explanation:
    return explain(model.predictor, text)
