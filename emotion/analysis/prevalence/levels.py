"""The labels whose prevalence is estimated: those of the model, or the parents of a taxonomy."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from emotion.errors import DataError
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.parents import ParentModel
from emotion.labels import LabelSet

PROBABILITY = "probability_"
"""Prefix of the columns that scoring adds with `--probabilities all`."""


@dataclass(frozen=True)
class Levels:
    """The labels of a model and, with a taxonomy, their parents, which are estimated in their stead."""

    model_labels: LabelSet
    model_rule: DecisionRule
    parents: ParentModel | None = None

    @property
    def label_set(self) -> LabelSet:
        """The labels that are estimated."""
        return self.model_labels if self.parents is None else self.parents.label_set

    @property
    def rule(self) -> DecisionRule:
        """The rule that decides on them."""
        return self.model_rule if self.parents is None else self.parents.rule

    @property
    def columns(self) -> set[str]:
        """Columns that a scored file may have."""
        return {*list_columns(self.model_labels), *list_columns(self.label_set)}

    def find_scored(self, path: str, columns: Collection[str]) -> LabelSet | None:
        """Return the labels of which a file has a probability each: the model's, or else the parents. None if it has no probability.

        Raises: DataError if it has those of some labels only.
        """
        for label_set in (self.model_labels, self.label_set):
            if all(column in columns for column in list_columns(label_set)):
                return label_set
        if not any(column.startswith(PROBABILITY) for column in columns):
            return None
        missing = next(column for column in list_columns(self.model_labels) if column not in columns)
        raise DataError(
            f"{path}: has no column {missing!r}, so another model scored it; give that model, or the file without the columns that "
            "scoring added"
        )

    def convert(self, probabilities: np.ndarray, label_set: LabelSet) -> np.ndarray:
        """Return the probabilities of the labels that are estimated, for those of the labels that `find_scored` returned, float (n, L)."""
        return probabilities if self.parents is None or label_set == self.parents.label_set else self.parents.convert(probabilities)


def list_columns(label_set: LabelSet) -> list[str]:
    """Return the columns of the probabilities of labels in a scored file."""
    return [PROBABILITY + name for name in label_set.names]
