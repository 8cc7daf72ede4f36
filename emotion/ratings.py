"""`Ratings`: the labels that each of several raters gave to the rows of a split. m is the number of ratings, L that of labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

UNKNOWN = -1
"""Rater of a rating that does not say whose it is."""


@dataclass(frozen=True)
class Ratings:
    """A rating is what one rater said of one row; a rater has at most one for a row."""

    rows: np.ndarray
    """Position of the row in its split, int (m,)."""
    raters: np.ndarray
    """Position of the rater in `names`, int (m,), or `UNKNOWN`."""
    names: tuple[str, ...]
    labels: np.ndarray
    """bool (m, L)."""
    is_judged: np.ndarray
    """Whether the rater judged the label, bool (m, L)."""

    def take(self, rows: np.ndarray) -> "Ratings":
        """Return the ratings of the given rows, which are different ones, with their positions among these."""
        positions = np.full(1 + max(self.rows.max(initial=-1), rows.max(initial=-1)), -1)
        positions[rows] = np.arange(len(rows))
        moved = positions[self.rows]
        is_kept = moved >= 0
        labels, is_judged = self.labels[is_kept], self.is_judged[is_kept]
        return replace(self, rows=moved[is_kept], raters=self.raters[is_kept], labels=labels, is_judged=is_judged)

    def convert(self, convert: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | None]]) -> "Ratings":
        """Return the ratings with other labels: `convert` maps `labels` and `is_judged` to those, None if all are judged."""
        labels, is_judged = convert(self.labels, self.is_judged)
        return replace(self, labels=labels, is_judged=np.ones_like(labels) if is_judged is None else is_judged)

    @classmethod
    def concatenate(cls, parts: "Sequence[Ratings | None]", starts: Sequence[int]) -> "Ratings | None":
        """Return the ratings of several splits as those of one, in which each split begins at the row `starts`; None if there are none."""
        known = [(part, start) for part, start in zip(parts, starts, strict=True) if part is not None]
        if not known:
            return None
        names = tuple(dict.fromkeys(name for part, _ in known for name in part.names))
        columns = {name: position for position, name in enumerate(names)}
        return cls(
            np.concatenate([part.rows + start for part, start in known]),
            np.concatenate([np.array([*(columns[name] for name in part.names), UNKNOWN])[part.raters] for part, _ in known]),
            names,
            np.concatenate([part.labels for part, _ in known]),
            np.concatenate([part.is_judged for part, _ in known]),
        )


def count_votes(groups: np.ndarray, labels: np.ndarray, is_judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many ratings of each group gave a label, and how many judged it, both int (g, L).

    `groups`, int (m,), are the numbers of the groups from 0 on; `labels` and `is_judged` are bool (m, L).
    """
    votes, judges = np.zeros((2, 1 + groups.max(initial=-1), labels.shape[1]), dtype=int)
    np.add.at(votes, groups, labels & is_judged)
    np.add.at(judges, groups, is_judged)
    return votes, judges


def find_majority(votes: np.ndarray, judges: np.ndarray) -> np.ndarray:
    """Return whether at least half of those who judged a label gave it, bool; False where nobody judged it."""
    return np.asarray((votes > 0) & (2 * votes >= judges))
