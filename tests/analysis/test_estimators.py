"""Estimators of prevalence: laws of each, and agreement with QuaPy label by label."""

import numpy as np
import pytest
from quapy.method.aggregative import ACC, CC, EMQ, PACC, PCC
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from emotion.analysis.prevalence import estimators, histograms
from emotion.analysis.prevalence.correction import ESTIMATORS, fit_correction

GENERATOR = np.random.default_rng(0)
NUM_ROWS, NUM_LABELS, THRESHOLD = 3_000, 4, 0.3
FREQUENCIES = (0.3, 0.1, 0.05, 0.02)

FITTED = LogisticRegression().fit([[0], [1]], [0, 1])
"""QuaPy wants a classifier; its predictions are given."""


def draw_rows(label, num_rows, prevalence):
    """Return gold, bool (n,), and probabilities, float (n,), of a model that is calibrated at the label's frequency."""
    gold = GENERATOR.random(num_rows) < prevalence
    frequency = FREQUENCIES[label]
    logits = np.log(frequency / (1 - frequency)) + 2.25 * (gold - 0.5) * 2 + 2.1213 * GENERATOR.normal(size=num_rows)
    return gold, 1 / (1 + np.exp(-logits))


VALIDATION = [draw_rows(label, NUM_ROWS, FREQUENCIES[label]) for label in range(NUM_LABELS)]
GROUPS = [draw_rows(label, 500, factor * FREQUENCIES[label])[1] for label in range(NUM_LABELS) for factor in (0, 0.5, 1, 2.5)]
PAIRS = [(*VALIDATION[number // 4], group) for number, group in enumerate(GROUPS)]


def correct(gold, probabilities, group):
    """Return the correction of validation rows and the weights of a group, with one atom per row of both."""
    values = np.concatenate([probabilities, group])
    rows = np.concatenate([gold, np.zeros(len(group), bool)])
    is_validation = np.arange(len(values)) < len(gold)
    correction = fit_correction(values, values >= THRESHOLD, (is_validation & rows).astype(float), (is_validation & ~rows).astype(float))
    return correction, (~is_validation).astype(float)


@pytest.mark.parametrize("pair", PAIRS, ids=range(len(PAIRS)))
def test_agrees_with_quapy(pair, monkeypatch):
    gold, probabilities, group = pair
    correction, weights = correct(gold, probabilities, group)
    labels = gold.astype(int)

    def aggregate(method, validation, rows):
        method.aggregation_fit(validation, labels)
        return method.aggregate(rows)[1]

    def pair_up(values):
        return np.column_stack([1 - values, values])

    decided, decided_group = (probabilities >= THRESHOLD).astype(int), (group >= THRESHOLD).astype(int)
    options = {"classifier": FITTED, "fit_classifier": False}
    adjusted = {**options, "val_split": None, "solver": "exact-raise"}
    expected = {
        "count": aggregate(CC(**options), decided, decided_group),
        "acc": aggregate(ACC(**adjusted), decided, decided_group),
        "pacc": aggregate(PACC(**adjusted), pair_up(probabilities), pair_up(group)),
    }
    found = {name: float(correction.estimate(weights, name)) for name in expected}
    assert found == pytest.approx(expected, abs=1e-6)
    calibrated = correction.calibrated[len(gold) :]
    assert float(correction.estimate(weights, "pcc")) == pytest.approx(aggregate(PCC(**options), None, pair_up(calibrated)), abs=1e-6)
    monkeypatch.setattr(EMQ, "MAX_ITER", 1_000_000)
    prior = gold.mean()
    limit, _ = EMQ.EM(np.array([1 - prior, prior]), pair_up(calibrated), epsilon=1e-11)
    assert float(correction.estimate(weights, "sld")) == pytest.approx(limit[1], abs=1e-6)


def test_the_pairs_are_not_all_at_a_bound():
    found = [float(correct(*pair)[0].estimate(correct(*pair)[1], "acc")) for pair in PAIRS]
    assert min(found) == 0 and sum(0 < value < 1 for value in found) >= 8


@pytest.mark.parametrize("prevalence", [0.0, 0.01, 0.2, 0.9, 1.0])
def test_a_mixture_of_the_validation_rows_is_recovered(prevalence):
    """Whatever the model's errors, the adjusted estimators undo them; SLD does where the probabilities are calibrated."""
    values, is_predicted = histograms.list_atoms()
    gold, probabilities = VALIDATION[0]
    atoms = histograms.find_atoms(probabilities, probabilities >= THRESHOLD)
    positives, negatives = (np.bincount(atoms[chosen], minlength=len(values)).astype(float) for chosen in (gold, ~gold))
    correction = fit_correction(values, is_predicted, positives, negatives)
    group = prevalence * positives / positives.sum() + (1 - prevalence) * negatives / negatives.sum()
    assert correction.estimate(group, "acc") == pytest.approx(prevalence, abs=1e-12)
    assert correction.estimate(group, "pacc") == pytest.approx(prevalence, abs=1e-12)
    is_known = positives + negatives > 0
    exact = np.where(is_known, correction.densities[0] / np.maximum(correction.densities[1], 1e-12), 1.0)
    assert estimators.maximize_likelihood(group, exact) == pytest.approx(prevalence, abs=1e-6)


def test_a_label_that_no_row_or_every_row_looks_like():
    ratios = np.array([0.1, 10.0])
    assert estimators.maximize_likelihood(np.array([100.0, 0.0]), ratios) == 0
    assert estimators.maximize_likelihood(np.array([0.0, 100.0]), ratios) == 1


def test_resamples_are_estimated_like_single_groups():
    """Leading dimensions of the group, of the validation rows, or of both."""
    gold, probabilities, group = PAIRS[6]
    correction, weights = correct(gold, probabilities, group)
    positives, negatives = (correction.densities[k] * number for k, number in enumerate((gold.sum(), (~gold).sum())))
    draws = GENERATOR.standard_gamma(1, (3, len(weights)))
    several = fit_correction(correction.values, correction.is_predicted, positives * draws, negatives * draws)
    for name in ESTIMATORS:
        singles = [
            float(
                fit_correction(correction.values, correction.is_predicted, positives * draw, negatives * draw).estimate(
                    weights * draw, name
                )
            )
            for draw in draws
        ]
        assert several.estimate(weights * draws, name) == pytest.approx(singles, abs=1e-7)
        assert correction.estimate(weights * draws, name) == pytest.approx(
            [float(correction.estimate(weights * draw, name)) for draw in draws], abs=1e-7
        )


def test_a_weight_is_a_number_of_rows():
    gold, probabilities, group = PAIRS[3]
    correction, weights = correct(gold, probabilities, group)
    doubled, twice = correct(gold, probabilities, np.concatenate([group, group]))
    for name in ESTIMATORS:
        assert float(doubled.estimate(twice, name)) == pytest.approx(float(correction.estimate(2 * weights, name)), abs=1e-9)


def test_bounds_and_a_model_that_says_nothing():
    gold, probabilities, _ = PAIRS[0]
    correction, weights = correct(gold, probabilities, np.full(10, 0.01))  # fewer are predicted than among rows without the label
    assert correction.estimate(weights, "acc") == 0 > correction.estimate(weights, "acc", is_bounded=False)
    constant, weights = correct(gold, np.full(NUM_ROWS, 0.2), np.full(5, 0.2))
    assert np.isnan(constant.estimate(weights, "acc")) and np.isnan(constant.estimate(weights, "pacc"))


def test_calibration_has_the_highest_posterior():
    gold, probabilities = VALIDATION[2]
    values = np.clip(probabilities, 1e-4, 1 - 1e-4) ** 1.3  # not calibrated
    found = estimators.calibrate(values, gold.astype(float), (~gold).astype(float))
    logits = np.log(values / (1 - values))

    def negative_log_posterior(parameters):
        scores = parameters[0] * logits + parameters[1]
        prior = ((parameters[0] - 1) / estimators.SLOPE_STD) ** 2 / 2 + (parameters[1] / estimators.INTERCEPT_STD) ** 2 / 2
        return np.logaddexp(0, scores).sum() - scores[gold].sum() + prior

    slope, intercept = minimize(negative_log_posterior, (1, 0), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    assert found == pytest.approx(1 / (1 + np.exp(-slope * logits - intercept)), abs=1e-5)
    assert abs(found.sum() - gold.sum()) < 0.25 * abs(values.sum() - gold.sum())


def test_bins_keep_the_mean_of_probabilities():
    """To half the width of a bin, relative to the value: at most 13 % of each, which averages out."""
    bins, values = histograms.build_bins()
    grid = np.arange(1, 10_000) / 10_000
    assert np.all(np.diff(values) > 0) and len(np.unique(bins)) == len(values)
    logits, centers = np.log(grid / (1 - grid)), np.log(values / (1 - values))[bins[1:-1]]
    assert np.abs(logits - centers).max() <= histograms.LOGIT_STEP
    for _, probabilities in VALIDATION:
        atoms = histograms.find_atoms(probabilities, probabilities >= THRESHOLD)
        assert histograms.list_atoms()[0][atoms].mean() == pytest.approx(probabilities.mean(), rel=0.01)
        assert np.array_equal(histograms.list_atoms()[1][atoms], probabilities >= THRESHOLD)


def test_counts_by_cell_label_and_atom():
    atoms = np.array([[0, 3], [0, -1], [5, 3]])
    counts = histograms.count_atoms(atoms, np.array([0, 1, 1]), 2)
    assert counts.shape == (2, 2, len(histograms.list_atoms()[0])) and counts.sum() == 5
    assert counts[0, 0, 0] == counts[1, 0, 0] == counts[1, 0, 5] == counts[0, 1, 3] == counts[1, 1, 3] == 1
