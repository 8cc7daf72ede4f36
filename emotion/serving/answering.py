"""The answers to texts, each as `infer.py --json` prints it, whichever requests share a batch."""

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from emotion.evaluation.decision import DecisionRule
from emotion.inference.answers import build_record
from emotion.inference.explanation import Explanation, explain
from emotion.inference.text_checks import describe_text
from emotion.inference.textwise import TextwisePredictor
from emotion.inference.torch_free import TorchFreePredictor

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor


class Question(NamedTuple):
    """A text and the rule that decides on its labels."""

    text: str
    rule: DecisionRule


class Answer(NamedTuple):
    """What the model says about a text."""

    scores: np.ndarray
    """Probabilities, float32 (L,)."""
    notes: list[str]
    explanation: Explanation | None = None


class Answerer:
    """A model that answers batches of questions; two threads may use it."""

    def __init__(self, predictor: "Predictor | TorchFreePredictor", model: str) -> None:
        self.predictor, self.model = predictor, model
        self.textwise = TextwisePredictor(predictor)
        # a prediction of torch changes the number of threads of the whole process
        self._lock = nullcontext() if isinstance(predictor, TorchFreePredictor) else threading.Lock()

    def warm_up(self, is_batching: bool) -> None:
        """Predict once, because the first prediction takes longest, and measure batches where there will be any."""
        self.predictor.predict_checked(["a"])
        if is_batching:
            _ = self.textwise.is_batching

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Return the answer to each question."""
        texts = [question.text for question in questions]
        with self._lock:
            thresholds = np.array([question.rule.thresholds for question in questions])
            probabilities, checks = self.textwise.predict_checked(texts, thresholds)
        sidecar = self.predictor.sidecar
        return [Answer(probabilities[row], describe_text(text, checks, row, sidecar)) for row, text in enumerate(texts)]

    def explain(self, questions: list[Question]) -> list[Answer]:
        """Return the answer to each question with the contribution of each word."""
        answers = self.answer(questions)
        with self._lock:
            return [answer._replace(explanation=explain(self.predictor, q.text)) for q, answer in zip(questions, answers, strict=True)]

    def build_record(self, question: Question, answer: Answer, top_k: int | None) -> dict[str, Any]:
        """Return what `infer.py --json` prints of an answer."""
        rule, names = question.rule, self.predictor.label_set.names
        predicted = rule.decide(answer.scores[None])[0]
        record = build_record(question.text, names, answer.scores, predicted, rule, top_k, answer.explanation)
        return record | ({"notes": answer.notes} if answer.notes else {})
