"""Seeded splits, stratified over multi-hot labels, in which rows with the same text stay on the same side."""

import math

import numpy as np

from emotion.errors import DataError


def normalize_text(text: str) -> str:
    """Return the text in lower case with single spaces; texts that are equal after this count as duplicates."""
    return " ".join(text.casefold().split())


def split_rows(
    texts: list[str], labels: np.ndarray, fraction: float, seed: int, remedy: str = "give the split as a file"
) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted row indices (kept, taken), where `taken` is about `fraction` of the rows.

    The unit of the split is the distinct text; its labels are the union over its rows. `labels` is bool (n, L). `remedy` is part of an
    error message.

    Raises: DataError if there are too few distinct texts for two sides, or too few of each label.
    Source: Sechidis et al. 2011, "On the Stratification of Multi-Label Data" (iterative stratification).
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    members, used_labels = _group_texts(texts, labels)
    num_texts = len(used_labels)
    if num_texts < 2 or round(fraction * num_texts) < 1 or math.ceil(fraction * num_texts) == num_texts:
        number = "1 distinct text is" if num_texts == 1 else f"{num_texts:,} distinct texts are"
        raise DataError(f"{number} too few to split off a fraction of {fraction:.3g}; {remedy}")
    if used_labels.shape[1] == 1:  # all rows have the same label: nothing to stratify
        taken_groups = np.random.default_rng(seed).permutation(num_texts)[: round(fraction * num_texts)]
    else:
        splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
        _, taken_groups = next(splitter.split(np.zeros((num_texts, 1)), used_labels))
    if len(taken_groups) in (0, num_texts):
        raise DataError(
            f"{num_texts:,} distinct texts with {used_labels.shape[1]:,} different labels (the median label is in "
            f"{np.median(used_labels.sum(axis=0)):.0f}) are too few to split off a fraction of {fraction:.3g}, which needs "
            f"{1 / fraction:.0f} texts of a label; {remedy}"
        )
    is_taken = np.isin(members, taken_groups)
    return np.flatnonzero(~is_taken), np.flatnonzero(is_taken)


def split_folds(texts: list[str], labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row, int (n,), in [0, `num_folds`): stratified by label, all rows of a text in the same fold.

    `labels` is bool (n, L).

    Raises: DataError if there are fewer distinct texts than folds.
    Source: as `split_rows`.
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    members, used_labels = _group_texts(texts, labels)
    if len(used_labels) < num_folds:
        raise DataError(f"{len(used_labels):,} distinct texts are too few for {num_folds} folds")
    folds = np.empty(len(used_labels), dtype=np.int64)
    if used_labels.shape[1] == 1:
        folds[np.random.default_rng(seed).permutation(len(folds))] = np.arange(len(folds)) % num_folds
    else:
        splitter = MultilabelStratifiedKFold(n_splits=num_folds, shuffle=True, random_state=seed)
        for fold, (_, taken) in enumerate(splitter.split(np.zeros((len(folds), 1)), used_labels)):
            folds[taken] = fold
    return folds[members]


def _group_texts(texts: list[str], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct text of each row, int (n,), and the labels of each distinct text, int (m, K): the union over its rows.

    The library requires a label on every row and a row for every label: a column is added for texts without labels, unused labels are
    dropped.
    """
    groups, members = np.unique(np.array([normalize_text(text) for text in texts], dtype=object), return_inverse=True)
    group_labels = np.zeros((len(groups), labels.shape[1]), dtype=bool)
    np.logical_or.at(group_labels, members, labels)
    group_labels = np.column_stack([group_labels, ~group_labels.any(axis=1)])
    return members, group_labels[:, group_labels.any(axis=0)].astype(int)
