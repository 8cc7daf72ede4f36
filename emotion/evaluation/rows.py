"""`ScoredRows`: labelled rows with the probabilities of a model, which reports are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emotion.labels import LabelSet
from emotion.ratings import Ratings


@dataclass(frozen=True)
class ScoredRows:
    """The rows of a split or file with gold labels and probabilities."""

    ids: list[str]
    label_set: LabelSet
    labels: np.ndarray
    """Gold labels, bool (n, L)."""
    probabilities: np.ndarray
    """Calibrated probabilities, float (n, L)."""
    is_judged: np.ndarray | None = None
    """Whether the label was annotated, bool (n, L); None if all were."""
    texts: Sequence[str] | None = None
    """None if they are not known, or not to be quoted."""
    ratings: Ratings | None = None
    """What each rater said of the rows; None if the raters are not known."""
