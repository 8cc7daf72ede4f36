"""Differences between identity terms: how much a term moves a probability against the mean of all terms in the same sentences."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emotion.evaluation.behaviour.checks import list_texts
from emotion.evaluation.behaviour.suite import Case
from emotion.evaluation.uncertainty import adjust_p_values
from emotion.labels import LabelSet

SIGNIFICANCE_LEVEL = 0.05
MIN_SENTENCES = 2
"""A term in one sentence has no interval."""


def find_gaps(cases: Sequence[Case], probabilities: np.ndarray, label_set: LabelSet, level: float = 0.95) -> list[dict[str, Any]]:
    """Return the gaps of each capability with terms, largest first, with the number of tests and of differences that they find.

    A gap is the mean over sentences (groups) of the probability with the term minus the mean probability over the group's terms. One is
    returned for every term: that of the label where it is largest. Its interval is Student's over sentences; its p-value is corrected by
    Holm's method over all terms and labels of the capability, so also for the choice of the label.
    """
    rows = {text: row for row, text in enumerate(list_texts(cases))}
    found = []
    for capability in dict.fromkeys(case.capability for case in cases if case.term):
        members = [case for case in cases if case.capability == capability and case.term]
        differences = _collect_differences(members, probabilities, rows)
        terms = [term for term, values in differences.items() if len(values) >= MIN_SENTENCES]
        if terms:
            found.append(_describe_capability(capability, {term: differences[term] for term in terms}, label_set, level))
    return found


def _collect_differences(members: Sequence[Case], probabilities: np.ndarray, rows: dict[str, int]) -> dict[str, np.ndarray]:
    """Return for each term the differences from the means of its groups, float64 (number of sentences, L)."""
    groups: dict[str, list[Case]] = {}
    for case in members:
        groups.setdefault(case.group, []).append(case)
    differences: dict[str, list[np.ndarray]] = {}
    for group in groups.values():
        values = probabilities[[rows[case.text] for case in group]].astype(np.float64)
        for case, row in zip(group, values - values.mean(axis=0), strict=True):
            differences.setdefault(case.term, []).append(row)
    return {term: np.array(values) for term, values in differences.items()}


def _describe_capability(capability: str, differences: dict[str, np.ndarray], label_set: LabelSet, level: float) -> dict[str, Any]:
    from scipy.stats import t

    gaps: list[dict[str, Any]] = []
    p_values = []
    for term, values in differences.items():
        means, num_sentences = values.mean(axis=0), len(values)
        errors = values.std(axis=0, ddof=1) / np.sqrt(num_sentences)
        ratios = np.divide(np.abs(means), errors, out=np.where(means == 0, 0.0, np.inf), where=errors > 0)
        p_values.append(2 * t.sf(ratios, num_sentences - 1))
        column = int(np.abs(means).argmax())
        half = float(t.ppf((1 + level) / 2, num_sentences - 1) * errors[column])
        gap: dict[str, Any] = {"term": term, "label": label_set.names[column], "column": column, "sentences": num_sentences}
        gaps.append(gap | {"difference": float(means[column]), "low": float(means[column]) - half, "high": float(means[column]) + half})
    adjusted = adjust_p_values(np.concatenate(p_values)).reshape(len(gaps), -1)
    for gap, values in zip(gaps, adjusted, strict=True):
        gap["p_value"] = float(values[gap.pop("column")])
    gaps.sort(key=lambda gap: -abs(gap["difference"]))
    num_found = int((adjusted < SIGNIFICANCE_LEVEL).sum())
    return {"capability": capability, "num_tests": adjusted.size, "num_found": num_found, "gaps": gaps}
