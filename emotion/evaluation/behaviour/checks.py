"""Run the cases of a suite on a model's probabilities: which pass, and by how much the others fail.

`probabilities` is float (n, L): one row per text of `list_texts`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emotion.errors import DataError
from emotion.evaluation.behaviour.suite import Case
from emotion.evaluation.decision import DecisionRule
from emotion.labels import LabelSet
from emotion.text import format_names

TOLERANCE = 0.1
"""Largest difference of two probabilities that count as the same, and largest drop in `not_lower`.

Source: Ribeiro et al. 2020 allow a change of 0.1 in the directional tests of sentiment.
"""
PARTIAL = ("none", "same")
"""Expectations that hold for each label by itself, so that a model with some of the labels can answer the case."""


@dataclass(frozen=True)
class Outcome:
    """The answer of a model to one case."""

    case: Case
    is_passed: bool
    excess: float
    """By how much probability the answer fails, in [0, 1]; 0 if it passes."""
    detail: str
    """The probabilities that decided."""


@dataclass(frozen=True)
class Outcomes:
    """The answers of a model to a suite."""

    answered: list[Outcome]
    skipped: list[Case]
    """Cases with labels that the model does not have."""
    missing_labels: Counter[str]
    """How many skipped cases each of these labels has."""


def list_texts(cases: Sequence[Case]) -> list[str]:
    """Return every text that a model has to answer, once."""
    return list(dict.fromkeys(text for case in cases for text in (case.text, case.compare_to) if text))


def run_checks(cases: Sequence[Case], probabilities: np.ndarray, label_set: LabelSet, rule: DecisionRule) -> Outcomes:
    """Return the outcome of every case that the model's labels can answer.

    Raises: DataError if they can answer none.
    """
    rows = {text: row for row, text in enumerate(list_texts(cases))}
    names = {name for case in cases for name in case.labels}
    columns = {name: column for name in names if (column := _find_column(name, label_set)) is not None}
    means = _average_groups(cases, probabilities, rows)
    predictions = rule.decide(probabilities)
    answered, skipped, missing = [], [], Counter[str]()
    for case in cases:
        known = [columns[name] for name in case.labels if name in columns]
        if case.labels and (not known or (len(known) < len(case.labels) and case.expect not in PARTIAL)):
            skipped.append(case)
            missing.update(name for name in case.labels if name not in columns)
            continue
        chosen = np.array(known) if case.labels else np.arange(len(label_set))
        shown = [label_set.names[column] for column in chosen]
        row = rows[case.text]
        values = probabilities[row, chosen].astype(float)
        if case.expect in ("any", "all", "none"):
            thresholds = np.array(rule.thresholds)[chosen]
            answered.append(_check_predictions(case, values, thresholds, predictions[row, chosen], shown))
        else:
            other = means[case.group] if case.group else probabilities[rows[case.compare_to]].astype(float)
            answered.append(_check_difference(case, values, other[chosen], shown))
    if not answered:
        raise DataError(f"no case has labels of the model only: it lacks {format_names(missing)}, and has {format_names(label_set.names)}")
    return Outcomes(answered, skipped, missing)


def _check_predictions(case: Case, values: np.ndarray, thresholds: np.ndarray, predicted: np.ndarray, names: list[str]) -> Outcome:
    """Return the outcome of a minimum functionality test; all arrays are (number of labels of the case,)."""
    distances = thresholds - values  # how much a label lacks
    if case.expect == "any":
        is_passed, column, excess = bool(predicted.any()), int(distances.argmin()), float(distances.min())
    elif case.expect == "all":
        lacking = np.where(predicted, -np.inf, distances)
        is_passed, column, excess = bool(predicted.all()), int(lacking.argmax()), float(lacking.max())
    else:
        surplus = np.where(predicted, -distances, -np.inf)
        is_passed, column, excess = not predicted.any(), int(surplus.argmax()), float(surplus.max())
    detail = f"{names[column]} {values[column]:.2f}, threshold {thresholds[column]:.2f}"
    return Outcome(case, is_passed, 0.0 if is_passed else max(excess, 0.0), detail)


def _check_difference(case: Case, values: np.ndarray, others: np.ndarray, names: list[str]) -> Outcome:
    """Return the outcome of a directional or an invariance test, given the probabilities of the text and of its counterpart."""
    counterpart = "mean of the group" if case.group else "counterpart"
    if case.expect == "same":
        column = int(np.abs(values - others).argmax())
        excess = abs(values[column] - others[column]) - TOLERANCE
        is_passed, value, other, name = excess <= 0, values[column], others[column], names[column]
    else:
        value, other, name = values.mean(), others.mean(), " and ".join(names)
        rise = value - other
        excess = {"higher": -rise, "lower": rise, "not_lower": -rise - TOLERANCE}[case.expect]
        is_passed = excess <= 0 if case.expect == "not_lower" else excess < 0  # equal is neither higher nor lower
    return Outcome(case, bool(is_passed), max(float(excess), 0.0), f"{name} {value:.2f}, {counterpart} {other:.2f}")


def _average_groups(cases: Sequence[Case], probabilities: np.ndarray, rows: dict[str, int]) -> dict[str, np.ndarray]:
    """Return the mean probabilities, float64 (L,), of the cases of each group."""
    groups: dict[str, list[int]] = {}
    for case in cases:
        if case.group:
            groups.setdefault(case.group, []).append(rows[case.text])
    return {group: probabilities[members].mean(axis=0, dtype=np.float64) for group, members in groups.items()}


def _find_column(name: str, label_set: LabelSet) -> int | None:
    """Return the column of a label, None if the model does not have it."""
    try:
        return label_set.column(name)
    except DataError:
        return None
