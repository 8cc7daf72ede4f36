"""Multi-label stratified, seeded splits that keep rows of the same text on one side."""

import numpy as np

from emotion.errors import DataError


def fold_text(text: str) -> str:
    """Return the form under which two texts count as the same: case and white space do not matter."""
    return " ".join(text.casefold().split())


def split_rows(texts: list[str], labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted row numbers (kept, taken), with about `fraction` of the rows taken.

    Texts are split, not rows: a text's labels are the union over its rows. `labels` is bool (n, L).

    Raises: DataError if there are too few texts to give each side one.
    Source: Sechidis et al. 2011, "On the Stratification of Multi-Label Data" (iterative stratification).
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    folded = [fold_text(text) for text in texts]
    groups, members = np.unique(np.array(folded, dtype=object), return_inverse=True)
    if len(groups) < 2 or round(fraction * len(groups)) < 1:
        raise DataError(f"{len(groups)} different texts are too few to split off a share of {fraction:.3g}: give the split as a file")
    group_labels = np.zeros((len(groups), labels.shape[1]), dtype=bool)
    np.logical_or.at(group_labels, members, labels)
    # The library needs a label on every row and at least one row a label: rows without any get a column of their own.
    group_labels = np.column_stack([group_labels, ~group_labels.any(axis=1)])
    used = group_labels[:, group_labels.any(axis=0)].astype(int)
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    _, taken_groups = next(splitter.split(np.zeros((len(groups), 1)), used))
    is_taken = np.isin(members, taken_groups)
    return np.flatnonzero(~is_taken), np.flatnonzero(is_taken)
