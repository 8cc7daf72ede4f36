"""A simulated model of four labels: calibrated probabilities at known frequencies, so that prevalences are known."""

from collections.abc import Sequence

import numpy as np

from emotion.evaluation.decision import DecisionRule

FREQUENCIES = np.array([0.3, 0.1, 0.04, 0.01])
NAMES = ("joy", "anger", "fear", "pride")
RULE = DecisionRule((0.4, 0.3, 0.3, 0.2))
DISTANCE = 2.5
"""Distance of the mean logits of texts with a label and without it; their variance is the same number, which makes them calibrated."""


def draw(num_rows: int, generator: np.random.Generator, factors: Sequence[float] = (1, 1, 1, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Return gold labels, bool (n, 4), and probabilities, float (n, 4), of rows in which labels are `factors` times as frequent."""
    gold = generator.random((num_rows, 4)) < FREQUENCIES * np.array(factors)
    logits = np.log(FREQUENCIES / (1 - FREQUENCIES)) + DISTANCE * (gold - 0.5) + DISTANCE**0.5 * generator.normal(size=gold.shape)
    return gold, 1 / (1 + np.exp(-logits))
