"""TF-IDF as a reference for the verdict on another model: fitted, predicted and scored in seconds, or not at all."""

import numpy as np
from scipy.special import expit

from emotion.config import DecisionConfig
from emotion.data.batching import batch_by_length, tokenize
from emotion.data.reading import Examples
from emotion.errors import DataError
from emotion.evaluation.calibration import fit_calibration
from emotion.evaluation.decision import fit_rule
from emotion.evaluation.verdict import score_averages
from emotion.modeling.baseline import fit_baseline
from emotion.modeling.prediction import predict_logits

MAX_CELLS = 100_000
"""Training rows x labels up to which TF-IDF is fitted."""
MAX_LENGTH = 512
"""Word and word pairs of a text that are used."""
BATCH_SIZE = 64


def score_reference(train: Examples, validation: Examples, rows: Examples, decision: DecisionConfig) -> dict[str, float] | None:
    """Return macro-F1 and micro-F1 on `rows` of TF-IDF fitted on `train`, with the decision rule fitted on `validation`.

    None where that would take more than seconds, or the texts have no word in common.
    """
    if train.labels.size > MAX_CELLS or len(validation) == 0:
        return None
    try:
        model, tokenizer = fit_baseline(train.texts, train.labels, MAX_LENGTH, seed=0, is_judged=train.is_judged)
    except DataError:
        return None

    def predict(texts: list[str]) -> np.ndarray:
        batches = batch_by_length(tokenize(tokenizer, texts, MAX_LENGTH), BATCH_SIZE)
        return predict_logits(model, batches, len(texts), model.head.weight.device)

    logits = predict(validation.texts)
    calibration = fit_calibration(validation.labels, logits, validation.is_judged)
    rule = fit_rule(validation.labels, calibration.apply(logits), decision, "", validation.is_judged)
    return score_averages(rows.labels, rule.decide(expit(calibration.apply(predict(rows.texts))), rows.is_judged))
