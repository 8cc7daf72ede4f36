"""Seeded splits, stratified over multi-hot labels, in which rows with the same text stay on the same side."""

import numpy as np

from emotion.errors import DataError


def normalize_text(text: str) -> str:
    """Return the text in lower case with single spaces; texts that are equal after this count as duplicates."""
    return " ".join(text.casefold().split())


def split_rows(texts: list[str], labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted row indices (kept, taken), where `taken` is about `fraction` of the rows.

    The unit of the split is the distinct text; its labels are the union over its rows. `labels` is bool (n, L).

    Raises: DataError if there are too few distinct texts for two sides, or too few of each label.
    Source: Sechidis et al. 2011, "On the Stratification of Multi-Label Data" (iterative stratification).
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    normalized = [normalize_text(text) for text in texts]
    groups, members = np.unique(np.array(normalized, dtype=object), return_inverse=True)
    if len(groups) < 2 or round(fraction * len(groups)) < 1:
        raise DataError(f"{len(groups)} distinct texts are too few to split off a fraction of {fraction:.3g}; give the split as a file")
    group_labels = np.zeros((len(groups), labels.shape[1]), dtype=bool)
    np.logical_or.at(group_labels, members, labels)
    # The library requires a label on every row and a row for every label: add a column for rows without labels, drop unused labels.
    group_labels = np.column_stack([group_labels, ~group_labels.any(axis=1)])
    used_labels = group_labels[:, group_labels.any(axis=0)].astype(int)
    if used_labels.shape[1] == 1:  # all rows have the same label: nothing to stratify
        taken_groups = np.random.default_rng(seed).permutation(len(groups))[: round(fraction * len(groups))]
    else:
        splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
        _, taken_groups = next(splitter.split(np.zeros((len(groups), 1)), used_labels))
    if len(taken_groups) in (0, len(groups)):
        raise DataError(
            f"{len(groups):,} distinct texts with {used_labels.shape[1]:,} different labels (the median label is in "
            f"{np.median(used_labels.sum(axis=0)):.0f}) are too few to split off a fraction of {fraction:.3g}, which needs "
            f"{1 / fraction:.0f} texts of a label; give the split as a file, or merge rare labels"
        )
    is_taken = np.isin(members, taken_groups)
    return np.flatnonzero(~is_taken), np.flatnonzero(is_taken)
