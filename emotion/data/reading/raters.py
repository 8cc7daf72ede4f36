"""Merge the rows that several people labelled: one row per text, with the labels that at least half of its raters gave."""

import numpy as np


def merge_raters(texts: list[str], labels: np.ndarray, is_judged: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first row of each text, and the merged labels and judgments, bool (n, L), of these rows.

    A label counts if at least half of those who judged it gave it. `labels` and `is_judged` are bool, one row per text and rater.
    """
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=int)
    _, first = np.unique(groups, return_index=True)
    votes, judges = np.zeros((2, len(numbers), labels.shape[1]), dtype=int)
    np.add.at(votes, groups, labels & is_judged)
    np.add.at(judges, groups, is_judged)
    return first, (votes > 0) & (2 * votes >= judges), judges > 0
