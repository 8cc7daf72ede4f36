"""Signs that the texts of a cell differ from the validation rows, for which the correction was fitted.

A sign is a mean that differs from that of the validation rows by more than resamples of these, of the size of the cell, differ (corrected
for the number of comparisons), and by a fifth of a standard deviation at least: in a million rows every difference is more than chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from emotion.analysis.prevalence.cells import MEASURES, Cell, CellKey
from emotion.analysis.prevalence.changes import SIGNIFICANCE_LEVEL
from emotion.analysis.prevalence.validation import ValidationRows
from emotion.inference.sidecar import Sidecar
from emotion.inference.torch_free import TOKENIZER, check_texts, load_tokenizer

MIN_EFFECT = 0.2
"""Smallest difference in standard deviations. Source: Cohen 1988, "Statistical Power Analysis", a small effect."""
DESCRIPTIONS = {
    "confidence": "the highest probability of a text",
    "empty": "texts without a label",
    "words": "words in a text",
    "cut": "texts longer than the model reads",
    "unknown": "texts mostly of unknown words",
}
FRACTIONS = ("empty", "cut", "unknown")


@dataclass(frozen=True)
class Moments:
    """Mean and variance of a measure over rows."""

    num_rows: int
    mean: float
    variance: float

    @classmethod
    def from_sums(cls, num_rows: int, total: float, total_squares: float) -> "Moments":
        """Return the moments of a number of values from their sum and the sum of their squares."""
        mean = total / num_rows
        return cls(num_rows, mean, max(total_squares / num_rows - mean**2, 0.0))

    @classmethod
    def from_values(cls, values: np.ndarray) -> "Moments":
        """Return the moments of values, bool or float (n,)."""
        return cls.from_sums(len(values), float(values.sum()), float((values.astype(float) ** 2).sum()))


@dataclass(frozen=True)
class Sign:
    """A measure in which a cell differs from the validation rows."""

    key: CellKey
    measure: str
    cell: float
    """Mean in the cell."""
    validation: float
    """Mean in the validation rows."""

    def describe(self) -> str:
        """Return the sign as a sentence without the cell's name."""
        if self.measure in FRACTIONS:
            return f"{DESCRIPTIONS[self.measure]}: {self.cell:.1%}, in the validation rows {self.validation:.1%}"
        digits = 2 if self.measure == "confidence" else 1
        return f"{DESCRIPTIONS[self.measure]}: {self.cell:.{digits}f} on average, in the validation rows {self.validation:.{digits}f}"


class TextChecker:
    """Finds texts that are cut or mostly unknown, with the tokenizer of a model folder; without one, as for TF-IDF, it finds nothing."""

    def __init__(self, folder: Path, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._tokenizer = load_tokenizer(folder, sidecar) if (folder / TOKENIZER).is_file() else None

    def measure(self, texts: Sequence[str]) -> dict[str, Moments]:
        """Return the moments of `cut` and `unknown`."""
        if self._tokenizer is None or not texts:
            return {}
        _, _, checks = check_texts(texts, self._tokenizer, self._sidecar)
        return {"cut": Moments.from_values(checks.is_cut), "unknown": Moments.from_values(checks.is_unknown)}


def measure_validation(validation: ValidationRows, texts: Sequence[str] | None, checker: TextChecker) -> dict[str, Moments]:
    """Return the moments of each measure in the validation rows; those of the texts only if these are known."""
    moments = {"confidence": Moments.from_values(validation.confidences), "empty": Moments.from_values(validation.is_empty)}
    if texts is not None:
        moments["words"] = Moments.from_values(np.array([len(text.split()) for text in texts]))
        moments |= checker.measure(texts)
    return moments


def find_signs(cells: Mapping[CellKey, Cell], expected: Mapping[str, Moments], checker: TextChecker) -> list[Sign]:
    """Return the signs of all cells that are not too small, those of the largest difference first."""
    measured = [
        (key, name, moments, expected[name])
        for key, cell in cells.items()
        if not cell.is_small
        for name, moments in measure_cell(cell, checker).items()
        if name in expected
    ]
    found = []
    limit = -NormalDist().inv_cdf(SIGNIFICANCE_LEVEL / 2 / max(len(measured), 1))
    for key, name, moments, others in measured:
        smallest = 0.5 / others.num_rows  # a fraction of 0 in validation is not known to be 0
        variance = max(others.variance, smallest * (1 - smallest))
        error = (variance * (1 / moments.num_rows + 1 / others.num_rows)) ** 0.5
        difference = abs(moments.mean - others.mean)
        if difference > limit * error and difference >= MIN_EFFECT * variance**0.5:
            found.append((difference / variance**0.5, Sign(key, name, moments.mean, others.mean)))
    return [sign for _, sign in sorted(found, key=lambda pair: -pair[0])]


def measure_cell(cell: Cell, checker: TextChecker) -> dict[str, Moments]:
    """Return the moments of each measure that is known of a cell; those of tokens are of its random sample of texts."""
    moments = {
        name: Moments.from_sums(cell.num_rows, *map(float, cell.sums[:, column]))
        for column, name in enumerate(MEASURES)
        if np.isfinite(cell.sums[0, column])
    }
    return moments | checker.measure([text for _, text in cell.texts])
