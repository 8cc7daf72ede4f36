"""Warning signs: what differs from the validation rows is found, what resamples of them show is not."""

import numpy as np

from emotion.analysis.prevalence.cells import CellCounter, CellKey
from emotion.analysis.prevalence.signs import Moments, Sign, find_signs, measure_validation
from emotion.analysis.prevalence.validation import count_validation
from tests.analysis.simulated import RULE, draw

GENERATOR = np.random.default_rng(0)
GOLD, PROBABILITIES = draw(3_000, GENERATOR)
ROWS = count_validation([], GOLD, PROBABILITIES, None, RULE)


class NoTokenizer:
    """A checker that finds a text of `?` unknown, and none cut."""

    def measure(self, texts):
        if not texts:
            return {}
        unknown = np.array([text == "?" for text in texts])
        return {"cut": Moments.from_values(np.zeros(len(texts), bool)), "unknown": Moments.from_values(unknown)}


def write_texts(num_rows, mean):
    return [" ".join(["word"] * number) for number in GENERATOR.poisson(mean, num_rows) + 1]


def find(probabilities, texts, validation_texts):
    counter = CellCounter(4, False)
    counter.add([CellKey("", "app")] * len(probabilities), probabilities, RULE.decide(probabilities), texts)
    return find_signs(counter.cells, measure_validation(ROWS, validation_texts, NoTokenizer()), NoTokenizer())


VALIDATION_TEXTS = write_texts(3_000, 10)


def test_rows_like_the_validation_rows_give_no_sign():
    for size in (100, 1_000, 20_000):
        assert find(draw(size, GENERATOR)[1], write_texts(size, 10), VALIDATION_TEXTS) == []


def test_longer_texts_are_a_sign():
    (sign,) = find(draw(1_000, GENERATOR)[1], write_texts(1_000, 14), VALIDATION_TEXTS)
    assert (sign.key, sign.measure) == (CellKey("", "app"), "words") and 14 < sign.cell < 16 and 10.5 < sign.validation < 11.5
    shown = Sign(sign.key, "words", 15.04, 10.96).describe()
    assert shown == "words in a text: 15.0 on average, in the validation rows 11.0"


def test_a_difference_that_is_more_than_chance_but_tiny_is_no_sign():
    """0.15 standard deviations of Poisson counts with mean 10 in 200,000 rows: 9 standard errors."""
    assert find(draw(50_000, GENERATOR)[1], write_texts(50_000, 10 + 0.15 * 10**0.5), VALIDATION_TEXTS) == []


def test_unknown_texts_where_validation_has_none():
    texts = ["?" if number % 10 == 0 else "a word" for number in range(1_000)]
    signs = find(draw(1_000, GENERATOR)[1], texts, ["a word"] * 3_000)
    (sign,) = [sign for sign in signs if sign.measure == "unknown"]
    assert sign.validation == 0 and sign.describe().endswith("in the validation rows 0.0%")


def test_without_texts_the_probabilities_are_compared():
    uncertain = np.full((1_000, 4), 0.02)
    signs = find(uncertain, None, None)
    assert [sign.measure for sign in signs] == ["confidence", "empty"] or [sign.measure for sign in signs] == ["empty", "confidence"]
    assert all(sign.describe() for sign in signs)


def test_a_small_cell_gives_no_sign():
    assert find(np.full((50, 4), 0.02), None, None) == []
