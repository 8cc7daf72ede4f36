"""Merge the rows that several people labelled: one row per text, with the labels that at least half of its raters gave."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emotion.data.reading.examples import Examples
from emotion.ratings import UNKNOWN, Ratings, count_votes, find_majority

MAJORITY = "each label that at least half of the raters gave"


@dataclass(frozen=True)
class MergedRows:
    """The rows of several raters as one row per text; n is the number of texts."""

    first: np.ndarray
    """The first row of each text, int (n,)."""
    labels: np.ndarray
    """Labels that at least half of those who judged them gave, bool (n, L)."""
    is_judged: np.ndarray
    """Whether somebody judged the label, bool (n, L)."""
    fractions: np.ndarray
    """The fraction of those who judged a label that gave it, float32 (n, L); 0 where nobody did."""
    groups: np.ndarray
    """Text of each row, int (m,)."""


def merge_raters(texts: Sequence[Hashable], labels: np.ndarray, is_judged: np.ndarray) -> MergedRows:
    """Return the rows of each text as one. `labels` and `is_judged` are bool (m, L), one row per text and rater."""
    numbers: dict[Hashable, int] = {}
    groups = np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=int)
    _, first = np.unique(groups, return_index=True)
    votes, judges = count_votes(groups, labels, is_judged)
    fractions = (votes / np.maximum(judges, 1)).astype(np.float32)
    return MergedRows(first, find_majority(votes, judges), judges > 0, fractions, groups)


def merge_examples(examples: Examples, raters: list[str], is_soft: bool) -> Examples:
    """Return the rows of several raters as one row per text, with the ratings; with `is_soft`, also the fractions of the raters.

    `raters` are the names of the rows' raters, empty where a row does not say; `examples.is_judged` is not None.
    """
    assert examples.is_judged is not None
    merged = merge_raters(examples.texts, examples.labels, examples.is_judged)
    ratings = gather_ratings(raters, merged.groups, examples.labels, examples.is_judged)
    fractions = merged.fractions if is_soft else None
    rows = examples.take(merged.first)
    return replace(rows, labels=merged.labels, is_judged=merged.is_judged, fractions=fractions, ratings=ratings)


def gather_ratings(raters: list[str], groups: np.ndarray, labels: np.ndarray, is_judged: np.ndarray) -> Ratings:
    """Return the ratings of merged rows; those of one rater for one text are merged as those of several raters are.

    `raters` are names, empty where a row does not say whose it is; `groups` is int (m,), the text of each row.
    """
    pairs = [(group, rater or row) for row, (group, rater) in enumerate(zip(groups.tolist(), raters, strict=True))]
    merged = merge_raters(pairs, labels, is_judged)
    is_used = merged.is_judged.any(axis=1)
    rows = merged.first[is_used]
    names = tuple(dict.fromkeys(name for name in raters if name))
    numbers = {name: number for number, name in enumerate(names)}
    columns = np.array([numbers.get(raters[row], UNKNOWN) for row in rows], dtype=int)
    return Ratings(groups[rows], columns, names, merged.labels[is_used], merged.is_judged[is_used])


def find_repeated_ratings(texts: list[str], ids: list[str], raters: list[str]) -> dict[int, int]:
    """Return the earlier row of each row in which a rater labelled a text again.

    Where rows share ids, these tell texts that are equal apart: two comments can be "Thanks!".
    """
    has_shared_ids = max(Counter(ids).values(), default=0) > 1
    first: dict[tuple[str, str, str], int] = {}
    found = {}
    for row, (text, row_id, rater) in enumerate(zip(texts, ids, raters, strict=True)):
        earlier = first.setdefault((text, row_id if has_shared_ids else "", rater), row) if rater else row
        if earlier != row:
            found[row] = earlier
    return found
