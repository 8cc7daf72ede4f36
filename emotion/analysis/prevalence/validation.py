"""The validation rows of a model: how often its probabilities and decisions are right, label by label."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion.analysis.prevalence.histograms import count_atoms, find_atoms, round_scores
from emotion.analysis.prevalence.levels import Levels
from emotion.errors import DataError
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.rows import ScoredRows
from emotion.inference.sidecar import find_model_folder
from emotion.labels import LabelSet
from emotion.tracking.locating import find_run_of_model
from emotion.tracking.run_rows import read_rows_to_score, read_validation

MIN_POSITIVES = 30
"""Validation rows with a label from which its intervals hold the truth about as often as they say (docs/log/prevalence.md)."""


@dataclass(frozen=True)
class ValidationRows:
    """The validation rows, as counts by label and atom, and their probabilities."""

    positives: np.ndarray
    """Rows with the label, int64 (L, A)."""
    negatives: np.ndarray
    """Rows without it, int64 (L, A)."""
    ids: list[str]
    confidences: np.ndarray
    """Highest probability of each row, float (n,)."""
    is_empty: np.ndarray
    """Whether no label is predicted in a row, bool (n,)."""

    @property
    def supports(self) -> np.ndarray:
        """Rows with each label, int (L,)."""
        return self.positives.sum(axis=1)

    @property
    def is_usable(self) -> np.ndarray:
        """Whether there is a row with the label and one without it, bool (L,)."""
        return (self.supports > 0) & (self.negatives.sum(axis=1) > 0)


def read_stored(model: str, levels: Levels) -> ScoredRows:
    """Return the stored validation rows of a model.

    Raises: DataError as `read_validation` does.
    """
    return read_validation(find_model_folder(model), levels.model_labels, f"--model {model}: the correction is")


def count_rows(rows: ScoredRows, levels: Levels, scored: LabelSet) -> ValidationRows:
    """Return the counts of validation rows, rounded as a scored file is: `scored` are the labels of which it has probabilities.

    Where it has those of the model's labels, their parents are computed from rounded probabilities. Unless those of validation are too,
    small ones differ so much that a large group of the very same texts has a poor fit.
    """
    if levels.parents is None:
        return count_validation(rows.ids, rows.labels, round_scores(rows.probabilities), rows.is_judged, levels.rule)
    labels, is_judged = levels.parents.level.merge_labels(rows.labels, rows.is_judged)
    is_of_parents = scored == levels.label_set
    probabilities = levels.parents.convert(rows.probabilities if is_of_parents else round_scores(rows.probabilities))
    return count_validation(rows.ids, labels, round_scores(probabilities) if is_of_parents else probabilities, is_judged, levels.rule)


def count_validation(
    ids: list[str], labels: np.ndarray, probabilities: np.ndarray, is_judged: np.ndarray | None, rule: DecisionRule
) -> ValidationRows:
    """Return the counts of rows with gold labels, bool (n, L), and probabilities, float (n, L)."""
    predictions = rule.decide(probabilities)
    atoms = find_atoms(probabilities, predictions)
    cells = np.zeros(len(atoms), dtype=int)
    is_negative = ~labels if is_judged is None else ~labels & is_judged
    positives, negatives = (count_atoms(np.where(chosen, atoms, -1), cells, 1)[0] for chosen in (labels, is_negative))
    is_empty = np.asarray(~predictions.any(axis=1))
    return ValidationRows(positives, negatives, ids, probabilities.max(axis=1), is_empty)


def read_validation_texts(folder: str, ids: list[str], label_set: LabelSet) -> tuple[list[str] | None, str]:
    """Return the texts of the validation rows of a model's run; None and the reason where its data is not here or has changed."""
    run = find_run_of_model(folder)
    if run is None:
        return None, "the model is not in a run folder"
    data = run.resolve_data(run.read_config()).data
    if not (data.train or data.source == "sample" or Path(data.source).exists()):  # else it would be downloaded
        return None, f"{data.source} is not a local file or folder"
    try:
        examples = read_rows_to_score(run, "validation", None, (), label_set).examples
    except DataError as error:
        return None, str(error)
    return (examples.texts, "") if examples.ids == ids else (None, f"the validation rows of {data.name} have changed since training")
