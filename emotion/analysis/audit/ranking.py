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
    """Quality score of each row's labels, float (n,) in [0, 1]; the lower, the more doubtful."""
    adjusted_quality: np.ndarray
    """The same from probabilities relative to each label's mean. A model is sure of few labels, so only this score shows missing ones."""

    @cached_property  # the outputs ask once a row
    def is_wrong(self) -> np.ndarray:
        return self.is_flagged & self.labels

    @cached_property
    def is_missing(self) -> np.ndarray:
        return self.is_flagged & ~self.labels

    @cached_property
    def order(self) -> np.ndarray:
        """The rows with a label that looks wrong or missing, int (m,): in turn the most doubtful one left by either quality score."""
        rows = np.flatnonzero(self.is_flagged.any(axis=1))
        orders = [rows[np.argsort(quality[rows], kind="stable")] for quality in (self.quality, self.adjusted_quality)]
        turns = np.stack(orders, axis=1).ravel()
        return turns[np.sort(np.unique(turns, return_index=True)[1])]


def check_installed() -> None:
    """Raise a ConfigError if cleanlab is missing: now, not after hours of training."""
    if importlib.util.find_spec("cleanlab") is None:
        raise ConfigError("audit.py: cleanlab is not installed: pip install -r requirements-audit.txt")


def find_issues(labels: np.ndarray, probabilities: np.ndarray, is_judged: np.ndarray | None = None) -> LabelIssues:
    """Return the labels that look wrong; `probabilities` are of models that were not trained on the row.

    A label that is given in no row, or in all rows, is never flagged: there is nothing to compare.

    Source: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (flags, one label against the
    rest); Thyagarajan, Snorrason, Northcutt and Mueller 2022, "Identifying Incorrect Annotations in Multi-Label Classification Data" (row
    scores: exponential moving average of the labels' self-confidence).
    """
    from cleanlab.multilabel_classification import filter as cleanlab_filter

    filled = fill_unjudged(labels, probabilities, is_judged)
    is_mixed = labels.any(axis=0) & ~labels.all(axis=0)
    is_flagged = np.zeros(labels.shape, dtype=bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on labels with few rows, which the noise estimates count
        if is_mixed.any():
            columns = list_columns(labels[:, is_mixed])
            # One process: the work takes seconds, and a child process would import everything again.
            is_flagged[:, is_mixed] = cleanlab_filter.find_multilabel_issues_per_class(columns, filled[:, is_mixed], n_jobs=1)
        scores = [score_quality(labels, filled, is_adjusted) for is_adjusted in (False, True)]
    if is_judged is not None:
        is_flagged &= is_judged
    return LabelIssues(labels, is_flagged, *scores)


def score_quality(labels: np.ndarray, probabilities: np.ndarray, is_adjusted: bool) -> np.ndarray:
    """Return cleanlab's quality score of each row, float64 (n,) in [0, 1], from probabilities, float64 (n, L).

    If `is_adjusted`, they are taken relative to each label's mean.
    """
    from cleanlab.multilabel_classification import get_label_quality_scores

    scores = get_label_quality_scores(list_columns(labels), probabilities, adjust_pred_probs=is_adjusted)
    return np.asarray(scores, dtype=np.float64)


def list_columns(labels: np.ndarray) -> list[list[int]]:
    """Return the columns of each row's labels, as cleanlab takes them."""
    return [np.flatnonzero(row).tolist() for row in labels]


def fill_unjudged(labels: np.ndarray, probabilities: np.ndarray, is_judged: np.ndarray | None) -> np.ndarray:
    """Return probabilities in which a label that nobody judged has the mean of the rows that are judged not to have it, float64 (n, L).

    It counts as not given, and with this value it moves no threshold of cleanlab, which has no mask.
    """
    filled = probabilities.astype(np.float64)
    if is_judged is None:
        return filled
    is_negative = is_judged & ~labels
    means = (filled * is_negative).sum(axis=0) / np.maximum(is_negative.sum(axis=0), 1)
    return np.where(is_judged, filled, means)
