"""Rank rows by how doubtful their labels are, with cleanlab. Shapes: `labels` and `is_judged` bool (n, L), `probabilities` float (n, L)."""

import importlib.util
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emotion.errors import ConfigError


@dataclass(frozen=True)
class LabelIssues:
    """Labels that look wrong."""

    labels: np.ndarray
    """The given labels, bool (n, L)."""
    is_flagged: np.ndarray
    """Whether a label looks wrong where it is given, or missing where it is not, bool (n, L)."""
    quality: np.ndarray
    """Score of each row's most doubtful flagged label, float (n,) in [0, 1]; the lower, the more doubtful. 1 where none is flagged."""

    @cached_property  # the outputs ask once a row
    def is_wrong(self) -> np.ndarray:
        return self.is_flagged & self.labels

    @cached_property
    def is_missing(self) -> np.ndarray:
        return self.is_flagged & ~self.labels

    @cached_property
    def order(self) -> np.ndarray:
        """The rows with a label that looks wrong or missing, int (m,), the most doubtful one first."""
        rows = np.flatnonzero(self.is_flagged.any(axis=1))
        return rows[np.argsort(self.quality[rows], kind="stable")]


def check_installed() -> None:
    """Raise a ConfigError if cleanlab is missing: now, not after hours of training."""
    if importlib.util.find_spec("cleanlab") is None:
        raise ConfigError("audit.py: cleanlab is not installed: pip install -r requirements-audit.txt")


def find_issues(labels: np.ndarray, probabilities: np.ndarray, is_judged: np.ndarray | None = None) -> LabelIssues:
    """Return the labels that look wrong; `probabilities` are of models that were not trained on the row.

    A label that is given in no judged row, or in all of them, is never flagged: there is nothing to compare.

    Source: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (flags, one label against the
    rest).
    """
    from cleanlab.multilabel_classification import filter as cleanlab_filter

    is_flagged = np.zeros(labels.shape, dtype=bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on labels with few rows, which the noise estimates count
        for column in range(labels.shape[1]):
            rows = np.arange(len(labels)) if is_judged is None else np.flatnonzero(is_judged[:, column])  # cleanlab has no mask
            given, scores = labels[rows, column], probabilities[rows, column].astype(np.float64)
            if given.any() and not given.all():
                columns = list_columns(given[:, None])
                # One process: the work takes seconds, and a child process would import everything again.
                is_flagged[rows, column] = cleanlab_filter.find_multilabel_issues_per_class(columns, scores[:, None], n_jobs=1)[:, 0]
    confidence = compute_relative_confidence(labels, probabilities, is_judged)
    return LabelIssues(labels, is_flagged, np.where(is_flagged, confidence, 1.0).min(axis=1).clip(max=1.0))


def compute_relative_confidence(labels: np.ndarray, probabilities: np.ndarray, is_judged: np.ndarray | None = None) -> np.ndarray:
    """Return the probability of each label being as it is given (or not given), divided by the mean of that over the judged rows.

    Float64 (n, L), at least 0; below 1 where the text speaks against what is given. Without the division rare labels would come first among
    the given ones, and frequent ones among those that are not given.
    """
    judged = np.ones_like(labels) if is_judged is None else is_judged
    means = (probabilities * judged).sum(axis=0, dtype=np.float64) / np.maximum(judged.sum(axis=0), 1)
    confidence, expected = np.where(labels, probabilities, 1.0 - probabilities), np.where(labels, means, 1.0 - means)
    return confidence / expected.clip(min=1e-12)


def list_columns(labels: np.ndarray) -> list[list[int]]:
    """Return the columns of each row's labels, as cleanlab takes them."""
    return [np.flatnonzero(row).tolist() for row in labels]
