"""A text's answer does not depend on the texts beside it, however batches move its logits."""

import numpy as np
import pytest
from scipy.special import expit

from emotion.inference.answers import DIGITS
from emotion.inference.loading import load_predictor
from emotion.inference.text_checks import TextChecks
from emotion.inference.textwise import MEASURED_TEXTS, MIN_MARGIN, SAFETY, TextwisePredictor, find_uncertain

NUM_TEXTS, NUM_LABELS = 400, 28
GENERATOR = np.random.default_rng(0)
ALONE = GENERATOR.normal(-3, 3, (NUM_TEXTS, NUM_LABELS)).astype(np.float32)
TEXTS = [str(number) for number in range(NUM_TEXTS)]


class NoisyPredictor:
    """Knows the logits of each text; in a batch they are moved by at most `noise`."""

    is_batch_faster, backend_name = True, "noise"

    def __init__(self, noise):
        self.noise, self.batches, self.generator = noise, [], np.random.default_rng(1)

    def predict(self, texts):
        return self.predict_checked(texts)[0]

    def predict_logits(self, texts):
        self.batches.append(len(texts))
        logits = ALONE[[int(text) if text.isdigit() else 0 for text in texts]]
        noise = self.generator.uniform(-self.noise, self.noise, logits.shape) if len(texts) > 1 else 0
        return (logits + noise).astype(np.float32)

    def predict_checked(self, texts):
        return expit(self.predict_logits(texts)), TextChecks.build_empty(len(texts))


def show(scores, thresholds):
    """Return what an answer shows: digits, predictions and the order of the labels."""
    return [
        (row.round(DIGITS).tolist(), (row >= limits).tolist(), row.argsort()[::-1].tolist())
        for row, limits in zip(scores.astype(float), thresholds, strict=True)
    ]


def make_textwise(noise, margin):
    textwise = TextwisePredictor(NoisyPredictor(noise))
    vars(textwise)["margin"] = margin
    return textwise


def test_answers_of_a_batch_are_those_of_each_text_alone():
    """Thresholds are scores of the texts themselves, the values that the smallest move takes across."""
    thresholds = np.where(GENERATOR.random(ALONE.shape) < 0.01, expit(ALONE), 0.5)
    expected = show(expit(ALONE), thresholds)
    moved = NoisyPredictor(1e-5).predict(TEXTS)
    assert sum(mine != theirs for mine, theirs in zip(show(moved, thresholds), expected, strict=True)) > 50  # the noise does change answers
    textwise = make_textwise(1e-5, 1.1e-5)
    scores, _ = textwise.predict_checked(TEXTS, thresholds)
    assert show(scores, thresholds) == expected
    batches = vars(textwise)["predictor"].batches
    assert 50 < textwise.num_repeated == batches.count(1) < NUM_TEXTS


@pytest.mark.parametrize(
    ("scores", "thresholds", "is_uncertain"),
    [
        ([0.30001, 0.2], [0.5, 0.5], False),
        ([0.300049, 0.2], [0.5, 0.5], True),  # 0.3 or 0.3001: half a unit is 0.00005
        ([0.30001, 0.2], [0.30001, 0.5], True),
        ([0.30001, 0.2], [0.30002, 0.5], False),
        ([0.30001, 0.3000101], [0.5, 0.5], True),
        ([0.99999, 1e-9], [0.5, 0.5], False),  # where a move of the logit hardly moves the probability
    ],
)
def test_what_a_move_could_change_is_uncertain(scores, thresholds, is_uncertain):
    """A margin of 1e-5 moves a probability of 0.3 by 2.1e-6."""
    assert find_uncertain(np.array([scores]), thresholds, 1e-5).tolist() == [is_uncertain]


def test_the_margin_is_measured():
    assert SAFETY * 1e-5 * 0.9 < TextwisePredictor(NoisyPredictor(1e-5)).margin <= SAFETY * 1.2e-5  # float32 adds a little to the noise
    assert TextwisePredictor(NoisyPredictor(0.0)).margin == MIN_MARGIN


@pytest.mark.parametrize(
    ("noise", "is_faster", "message"),
    [
        (1e-6, True, "texts of several requests are predicted together"),
        (1e-3, True, "each text is predicted alone: others in its batch change its logits by up to 1e-03"),
        (1e-6, False, "each text is predicted alone: noise is not faster with several"),
    ],
)
def test_a_large_margin_or_a_slow_batch_means_each_alone(noise, is_faster, message):
    predictor = NoisyPredictor(noise)
    predictor.is_batch_faster = is_faster
    textwise = TextwisePredictor(predictor)
    textwise.predict_checked(TEXTS, [0.5] * NUM_LABELS)
    assert (NUM_TEXTS in predictor.batches) is textwise.is_batching is (message == "texts of several requests are predicted together")
    assert textwise.describe() == message


def test_a_few_texts_are_predicted_alone_without_measuring():
    predictor = NoisyPredictor(1.0)
    TextwisePredictor(predictor).predict_checked(TEXTS[: len(MEASURED_TEXTS)], [0.5] * NUM_LABELS)
    assert predictor.batches == [1] * len(MEASURED_TEXTS)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_model_answers_texts_as_it_answers_each_alone(backend, tiny_run, small_texts):
    predictor = load_predictor(str(tiny_run), backend)
    alone = np.concatenate([predictor.predict([text]) for text in small_texts])
    textwise = TextwisePredictor(predictor)
    assert textwise.is_batching is (backend == "torch")  # fp32 on a CPU moves logits by 1e-6
    thresholds = alone[::-1]
    scores, checks = textwise.predict_checked(small_texts, thresholds)
    assert show(scores, thresholds) == show(alone, thresholds) and len(checks.is_cut) == len(small_texts)
