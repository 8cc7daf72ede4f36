"""Thresholds: what each of `decision.maximize` fits, and how far labels share a threshold."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from emotion.config import DecisionConfig
from emotion.evaluation import thresholds
from emotion.evaluation.thresholds import OWN_WEIGHTS, choose_own_weight, find_shared_threshold, fit_own_thresholds, fit_thresholds

SCORES = {
    "micro_f1": lambda gold, found: f1_score(gold, found, average="micro"),
    "jaccard": lambda gold, found: jaccard_score(gold, found, average="samples", zero_division=1),
    "subset_accuracy": accuracy_score,
}


def draw(num_rows, generator, shifts):
    """Return gold labels and logits; the best threshold of a label is about the sigmoid of its shift."""
    labels = generator.random((num_rows, len(shifts))) < 0.1
    return labels, generator.normal(size=labels.shape) + 2.5 * labels - 1.5 + np.array(shifts)


@pytest.mark.parametrize("metric", SCORES)
def test_the_shared_threshold_has_the_best_score(metric):
    labels, logits = draw(400, np.random.default_rng(0), (0.0,) * 4)
    found = find_shared_threshold(labels, expit(logits), metric)
    scores = [SCORES[metric](labels, expit(logits) >= threshold) for threshold in np.arange(1, 100) / 100]
    assert SCORES[metric](labels, expit(logits) >= found) >= max(scores)
    assert fit_thresholds(labels, logits, DecisionConfig(maximize=metric)) == (found,) * 4


@pytest.mark.parametrize("metric", SCORES)
def test_labels_that_were_not_annotated_do_not_count(metric):
    labels, logits = draw(400, np.random.default_rng(1), (0.0,) * 4)
    is_judged = np.random.default_rng(2).random(labels.shape) < 0.7
    others = np.where(is_judged, logits, 9.0)
    assert find_shared_threshold(labels & is_judged, expit(logits), metric, is_judged) == pytest.approx(
        find_shared_threshold(labels & is_judged, expit(others), metric, is_judged), abs=1e-12
    )
    assert find_shared_threshold(np.zeros_like(labels), expit(logits), metric) == 0.5


def choose(num_rows, seed, shifts):
    labels, logits = draw(num_rows, np.random.default_rng(seed), shifts)
    return choose_own_weight(labels, logits, 50.0)


def test_few_rows_share_and_many_rows_with_different_labels_do_not():
    """Twenty labels that need one threshold, and twenty that need thresholds from 0.05 to 0.95."""
    same, different = (0.0,) * 20, tuple(np.linspace(-3, 3, 20))
    few = [choose(120, seed, same) for seed in range(10)]
    many = [choose(4_000, seed, different) for seed in range(2)]
    assert np.mean(few) < np.mean(OWN_WEIGHTS)  # that of weights chosen at random
    assert many == [OWN_WEIGHTS[-1]] * 2


def test_sharing_is_better_on_new_rows():
    generator = np.random.default_rng(3)
    labels, logits = draw(20_000, generator, (0.0,) * 20)
    gains = []
    for seed in range(5):
        few_labels, few_logits = draw(120, np.random.default_rng(seed), (0.0,) * 20)
        own, chosen = fit_own_thresholds(few_labels, few_logits, 50.0), fit_thresholds(few_labels, few_logits, DecisionConfig())
        gains.append(np.subtract(*(f1_score(labels, logits >= logit(np.array(limits)), average="macro") for limits in (chosen, own))))
    assert min(gains) > 0


def test_the_weight_is_not_chosen_on_too_few_rows_or_too_many_pairs(monkeypatch):
    labels, logits = draw(120, np.random.default_rng(0), (0.0,) * 20)
    own = fit_own_thresholds(labels, logits, 50.0)
    assert fit_thresholds(labels, logits, DecisionConfig()) != pytest.approx(own)
    for limit in ("MIN_ROWS", 121), ("MAX_PAIRS", 2_399):
        with monkeypatch.context() as patch:
            patch.setattr(thresholds, *limit)
            assert fit_thresholds(labels, logits, DecisionConfig()) == pytest.approx(own)


@pytest.mark.parametrize("maximize", ["micro_f1", "macro_f1"])
def test_rounding_does_not_take_away_the_labels_of_equal_probabilities(maximize):
    """The saved head contains the calibration, so its probabilities differ from the fitted ones in the last bits."""
    labels, logits = np.tile([[True, False], [False, True]], (30, 1)), np.full((60, 2), -1.3, dtype=np.float32)
    found = fit_thresholds(labels, logits, DecisionConfig(maximize=maximize, shrinkage=0))
    assert (np.nextafter(expit(logits[0]), np.float32(0)) >= found).all() and min(found) > 0.05


def test_equal_scores_are_predicted_together_and_the_lower_of_two_equal_thresholds_is_taken():
    """With the first two rows alone F1 would be 1, but the second, third and fourth have the same score."""
    gold, scores = np.array([True, True, False, False, False]), np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    assert f1_score(gold, scores >= 0.7) == f1_score(gold, scores >= 0.3) == pytest.approx(2 / 3)
    assert thresholds._find_best_threshold(gold, scores) == pytest.approx(0.3)
