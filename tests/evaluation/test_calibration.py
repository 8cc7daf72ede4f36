"""Calibration: what it recovers, what it leaves alone, and how much of a label's own scale it believes."""

import numpy as np
import pytest
from scipy.special import expit

from emotion.evaluation.calibration import MIN_SLOPE, fit_calibration, fit_common_scale, fit_scaling, skip_calibration

SCALES, SHIFTS = np.array([1.6, 1.0, 0.6, 1.2]), np.array([-1.0, 0.3, 0.0, 0.8])


def draw(num_rows, scales=SCALES, shifts=SHIFTS, seed=0):
    """Return labels whose logits are `scales * logits + shifts`, and these logits of a model, (n, 4)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-1, 2, (num_rows, len(scales)))
    return generator.random(logits.shape) < expit(logits * scales + shifts), logits


def score(labels, logits):
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def test_a_scale_and_a_shift_of_all_labels_are_recovered():
    labels, logits = draw(20_000, np.ones(3), np.zeros(3))
    assert fit_common_scale(labels, logits) == pytest.approx((1, 0), abs=0.05)
    assert fit_common_scale(labels, 2.5 * (logits + 0.7)) == pytest.approx((0.4, -0.7), abs=0.05)
    assert fit_common_scale(labels, 2.5 * logits, has_bias=False) == pytest.approx((0.4, 0), abs=0.05)


def test_those_of_each_label_are_recovered_from_many_rows():
    found = fit_calibration(*draw(50_000))
    np.testing.assert_allclose(found.scales, SCALES, rtol=0.06)
    np.testing.assert_allclose(found.shifts, SHIFTS, atol=0.06)


@pytest.mark.parametrize("num_rows", [30, 300])
def test_labels_that_do_not_differ_get_nearly_the_same_scale_and_shift(num_rows):
    """Fitted for each label alone, without priors, they would differ by more than ten times as much."""
    labels, logits = draw(num_rows, np.full(20, 0.8), np.full(20, 0.5))
    found = fit_calibration(labels, logits)
    assert np.ptp(found.scales) < 0.15 and np.ptp(found.shifts) < 0.25
    alone = [fit_scaling(logits[:, column], labels[:, column], ~labels[:, column], 10.0, 10.0) for column in range(20)]
    assert np.ptp([float(intercept) for _, intercept in alone]) > 10 * np.ptp(found.shifts) * (num_rows == 30)


@pytest.mark.parametrize("num_rows", [50, 300, 5_000])
@pytest.mark.parametrize("spread", [0, 1])
def test_other_rows_are_predicted_at_least_as_well_as_with_one_scale_for_all(num_rows, spread):
    """Whether labels differ (`spread` 1) or not, from few rows and from many."""
    gains = []
    for seed in range(10):
        scales, shifts = 1 + spread * (SCALES - 1), spread * SHIFTS
        labels, logits = draw(num_rows, scales, shifts, seed)
        scale, shift = fit_common_scale(labels, logits)
        rest_labels, rest = draw(5_000, scales, shifts, 100 + seed)
        gains.append(score(rest_labels, scale * rest + shift) - score(rest_labels, fit_calibration(labels, logits).apply(rest)))
    assert np.mean(gains) > -0.002
    assert np.mean(gains) > 0.01 or not spread or num_rows == 50


def test_a_head_without_biases_gets_one_scale_and_no_shifts():
    found = fit_calibration(*draw(2_000), has_bias=False)
    assert len(set(found.scales)) == 1 and not found.shifts.any()


def test_the_order_of_texts_stays_even_for_a_label_that_the_model_gets_wrong():
    labels, logits = draw(5_000, np.array([2.0, -2.0, 1.5]), np.zeros(3))
    found = fit_calibration(labels, logits)
    common, _ = fit_common_scale(labels, logits)
    assert found.scales[1] == pytest.approx(MIN_SLOPE * common) and (found.scales > 0).all()
    assert expit(found.apply(logits)[:, 1]).mean() == pytest.approx(labels[:, 1].mean(), abs=0.03)


def test_labels_that_were_not_annotated_have_no_part():
    labels, logits = draw(2_000)
    is_judged = np.random.default_rng(5).random(labels.shape) < 0.5
    is_judged[:, 3] = False
    fits = [fit_calibration(labels & is_judged, np.where(is_judged, logits, filler), is_judged) for filler in (-9.0, 9.0)]
    assert np.array_equal(fits[0].scales, fits[1].scales) and np.array_equal(fits[0].shifts, fits[1].shifts)
    odd = np.zeros_like(is_judged)
    odd[1::2] = True
    halves = fit_calibration(labels & odd, logits, odd), fit_calibration(labels[1::2], logits[1::2])
    np.testing.assert_allclose(halves[0].scales, halves[1].scales, rtol=1e-6)


def test_a_label_without_rows_gets_what_all_labels_get():
    labels, logits = draw(2_000, np.full(4, 0.7), np.full(4, 0.4))
    is_judged = np.ones_like(labels)
    is_judged[:, 3] = False
    found, (scale, shift) = fit_calibration(labels & is_judged, logits, is_judged), fit_common_scale(labels[:, :3], logits[:, :3])
    assert (found.scales[3], found.shifts[3]) == pytest.approx((scale, shift))


def test_no_calibration_leaves_the_logits():
    _, logits = draw(10)
    np.testing.assert_array_equal(skip_calibration(4).apply(logits), logits)
