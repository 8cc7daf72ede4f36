"""Thresholds of a decision rule, fitted on the logits, float (n, L), and the gold labels, bool (n, L), of validation rows.

`is_judged`, bool (n, L), says which labels were annotated, None if all were; the others do not count, and their gold labels have to be
False.
"""

import numpy as np
from scipy.special import expit

from emotion.config import DecisionConfig
from emotion.evaluation.decision import compute_logits
from emotion.evaluation.metrics import list_judged_columns, score_counts

MAX_LOGIT_SHIFT = 30.0
"""Largest logit shift that `find_expected_thresholds` tries."""
NUM_BISECTION_STEPS = 40
OWN_WEIGHTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Weights of a label's own threshold that cross-fitting chooses from."""
NUM_FOLDS, NUM_DIVISIONS = 5, 2
MIN_ROWS, MAX_PAIRS = 50, 5_000_000
"""Fewest rows, and most row-label pairs, for which the weight is chosen; otherwise it is 1. The choice takes 10 times as long as a fit."""
SHARED_THRESHOLDS = np.arange(1, 100) / 100
"""Thresholds that are tried for the Jaccard index and subset accuracy."""


def fit_thresholds(
    labels: np.ndarray, logits: np.ndarray, config: DecisionConfig, is_judged: np.ndarray | None = None
) -> tuple[float, ...]:
    """Return one threshold per label for calibrated logits, float (n, L), and gold labels, bool (n, L).

    With `maximize` other than `macro_f1` all labels share one threshold. For micro-F1 it is optimal if the probabilities are calibrated,
    because micro-F1 weighs all row-label pairs equally; for the Jaccard index and subset accuracy one threshold overfits less than many.

    With `maximize=macro_f1` the logit of each threshold is a weighted mean of that of the label's own threshold (`fit_own_thresholds`) and
    of the shared one of micro-F1 (`choose_own_weight`): with few rows, or labels that need similar thresholds, own ones overfit.
    """
    if config.maximize != "macro_f1":
        return (find_shared_threshold(labels, expit(logits), config.maximize, is_judged),) * labels.shape[1]
    own, shared = _fit_logits(labels, logits, config.shrinkage, is_judged)
    weight = choose_own_weight(labels, logits, config.shrinkage, is_judged)
    return tuple(expit(weight * own + (1 - weight) * shared).tolist())


def choose_own_weight(labels: np.ndarray, logits: np.ndarray, shrinkage: float, is_judged: np.ndarray | None = None) -> float:
    """Return the weight of the labels' own thresholds with the best macro-F1 in cross-fitting; of equal ones the largest."""
    if len(labels) < MIN_ROWS or labels.size > MAX_PAIRS:
        return OWN_WEIGHTS[-1]
    weights = np.array(OWN_WEIGHTS)[:, None]
    predictions = np.zeros((len(weights), *labels.shape), dtype=bool)
    scores = np.zeros(len(weights))
    generator = np.random.default_rng(0)
    for _ in range(NUM_DIVISIONS):
        folds = generator.permutation(len(labels)) % NUM_FOLDS
        for fold in range(NUM_FOLDS):
            fitted, rest = folds != fold, folds == fold
            own, shared = _fit_logits(labels[fitted], logits[fitted], shrinkage, None if is_judged is None else is_judged[fitted])
            predictions[:, rest] = logits[rest] >= (weights * own + (1 - weights) * shared)[:, None]
        scores += [_score_macro_f1(labels, hits, is_judged) for hits in predictions]
    return OWN_WEIGHTS[int(np.flatnonzero(scores >= scores.max())[-1])] if np.isfinite(scores).all() else OWN_WEIGHTS[-1]


def fit_own_thresholds(labels: np.ndarray, logits: np.ndarray, shrinkage: float, is_judged: np.ndarray | None = None) -> np.ndarray:
    """Return thresholds, float (L,), that are each a weighted mean of the one with the best F1 and the one with the best expected F1.

    The first has weight `n / (n + shrinkage)` for a label with `n` positives: a threshold that is tuned on a few positives overfits.
    """
    probabilities = expit(logits)
    num_positives = labels.sum(axis=0)
    weights = np.divide(num_positives, num_positives + shrinkage, out=np.zeros(len(num_positives)), where=num_positives > 0)
    columns = list_judged_columns(labels, probabilities, is_judged)
    tuned = np.array([_find_best_threshold(gold, scores) if gold.any() else 0.0 for gold, scores in columns])
    return weights * tuned + (1 - weights) * find_expected_thresholds(labels, logits, is_judged)


def find_shared_threshold(labels: np.ndarray, probabilities: np.ndarray, metric: str, is_judged: np.ndarray | None = None) -> float:
    """Return the threshold for all labels with the best score; 0.5 without a gold label. `metric` is one of `decision.maximize`."""
    if not labels.any():
        return 0.5
    if metric == "micro_f1":
        return _find_best_threshold(labels[is_judged].ravel(), probabilities[is_judged].ravel())
    scores = []
    for threshold in SHARED_THRESHOLDS:
        predictions = probabilities >= threshold
        predictions = predictions if is_judged is None else predictions & is_judged
        if metric == "subset_accuracy":
            scores.append((predictions == labels).all(axis=1).mean())
        else:
            union = (predictions | labels).sum(axis=1)
            scores.append(np.where(union > 0, (predictions & labels).sum(axis=1) / np.maximum(union, 1), 1.0).mean())
    best = np.flatnonzero(np.array(scores) >= max(scores))
    return float(SHARED_THRESHOLDS[best[len(best) // 2]])  # the middle of equals


def find_expected_thresholds(labels: np.ndarray, logits: np.ndarray, is_judged: np.ndarray | None = None) -> np.ndarray:
    """Return each label's threshold with the best expected F1, float (L,).

    The expectation takes the probabilities as correct, so it uses all rows, not only the few positives of a rare label. The
    logits of a label are first shifted until the expected number of positives equals the observed number plus 0.5. The 0.5 keeps
    the shift finite for a label without positives.

    Source: Ye et al. 2012, "Optimizing F-measures: A Tale of Two Approaches".
    """
    if is_judged is not None:  # each label has rows of its own
        columns = list_judged_columns(labels, logits, is_judged)
        return np.array([find_expected_thresholds(gold[:, None], values[:, None])[0] if len(gold) else 0.5 for gold, values in columns])
    num_rows, num_labels = logits.shape
    target = labels.sum(axis=0) + 0.5
    low, high = np.full(num_labels, -MAX_LOGIT_SHIFT), np.full(num_labels, MAX_LOGIT_SHIFT)
    for _ in range(NUM_BISECTION_STEPS):
        shift = (low + high) / 2
        is_above = expit(logits + shift).sum(axis=0) > target
        low, high = np.where(is_above, low, shift), np.where(is_above, shift, high)
    ranked = -np.sort(-(logits + shift), axis=0)
    expected_hits = expit(ranked).cumsum(axis=0)
    f1 = 2 * expected_hits / (np.arange(1, num_rows + 1)[:, None] + expected_hits[-1])
    best = f1.argmax(axis=0)  # the best + 1 highest rows are predicted
    labels_of_best = np.arange(num_labels)
    ranked = np.vstack([ranked, ranked[-1:] - 1])  # if all rows are predicted, keep the threshold clear of the lowest logit
    midpoint = (ranked[best, labels_of_best] + ranked[best + 1, labels_of_best]) / 2
    return expit(midpoint - shift)


def _fit_logits(labels: np.ndarray, logits: np.ndarray, shrinkage: float, is_judged: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of the labels' own thresholds, float (L,), and of the shared one, float ()."""
    own = fit_own_thresholds(labels, logits, shrinkage, is_judged)
    shared = find_shared_threshold(labels, expit(logits), "micro_f1", is_judged)
    return compute_logits(own), compute_logits(np.asarray(shared))


def _score_macro_f1(labels: np.ndarray, predictions: np.ndarray, is_judged: np.ndarray | None) -> float:
    predictions = predictions if is_judged is None else predictions & is_judged
    hits, gold, predicted = (array.sum(axis=0) for array in (labels & predictions, labels, predictions))
    return score_counts(np.stack([hits, predicted - hits, gold - hits]), 0, len(labels))["macro_f1"]


def _find_best_threshold(gold: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold with the best F1, halfway to the next lower score, or to 0, so that rounding moves no row across it."""
    order = np.argsort(-scores)
    ranked, hits = scores[order], gold[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])  # of predicting this row and those before it
    f1[:-1][ranked[1:] == ranked[:-1]] = -1.0  # equal scores are predicted together
    best = int(np.flatnonzero(f1 >= f1.max())[-1])
    next_lower = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + next_lower) / 2)
