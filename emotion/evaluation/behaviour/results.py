"""The results of a suite as JSON: pass rates of the capabilities, the answer to every case, gaps between identity terms."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.checks import Rules, check_values, is_integer, is_number, read_object
from emotion.evaluation.behaviour.checks import TOLERANCE, Outcome, Outcomes, run_checks
from emotion.evaluation.behaviour.gaps import find_gaps
from emotion.evaluation.behaviour.intervals import find_pass_interval
from emotion.evaluation.behaviour.suite import Case, compute_fingerprint
from emotion.evaluation.decision import DecisionRule
from emotion.labels import LabelSet

VERSION = 1
FILE_NAME = "behaviour.json"
REMEDY = "check the behaviour again"
RATE: Rules = {
    "capability": ("a string", lambda value: isinstance(value, str)),
    "cases": ("a count", lambda value: is_integer(value, 1)),
    "hard": ("a count", lambda value: is_integer(value, 0)),
    "passed": ("a count", lambda value: is_integer(value, 0)),
    **{key: ("a number in [0, 1]", lambda value: is_number(value, 0, 1)) for key in ("rate", "low", "high")},
}
CASE: Rules = {
    **{key: ("a string", lambda value: isinstance(value, str)) for key in ("id", "capability", "expect", "detail")},
    **{key: ("true or false", lambda value: isinstance(value, bool)) for key in ("passed", "hard")},
    "cluster": ("a count", lambda value: is_integer(value, 0)),
    "excess": ("a number in [0, 1]", lambda value: is_number(value, 0, 1)),
}
GAPS: Rules = {
    "capability": ("a string", lambda value: isinstance(value, str)),
    "num_tests": ("a count", lambda value: is_integer(value, 1)),
    "num_found": ("a count", lambda value: is_integer(value, 0)),
    "gaps": ("a list", lambda value: isinstance(value, list) and len(value) > 0),
}
GAP: Rules = {
    **{key: ("a string", lambda value: isinstance(value, str)) for key in ("term", "label")},
    "sentences": ("a count", lambda value: is_integer(value, 1)),
    **{key: ("a number", lambda value: is_number(value, -1e3, 1e3)) for key in ("difference", "low", "high")},
    "p_value": ("a number in [0, 1]", lambda value: is_number(value, 0, 1)),
}
RULES: Rules = {
    "version": (str(VERSION), lambda value: value == VERSION),
    **{key: ("a string", lambda value: isinstance(value, str)) for key in ("suite", "fingerprint", "model", "evaluated")},
    "skipped": ("a count", lambda value: is_integer(value, 0)),
    "missing_labels": ("an object", lambda value: isinstance(value, dict) and all(is_integer(count, 1) for count in value.values())),
    "decision": ("an object", lambda value: isinstance(value, dict)),
    **{key: ("a list", lambda value: isinstance(value, list)) for key in ("capabilities", "cases", "gaps")},
}


@dataclass(frozen=True)
class PassedCases:
    """Which cases of a suite a model passed, to compare it with another one on the same cases."""

    fingerprint: str
    capabilities: list[str]
    """Of each case that was answered."""
    ids: list[str]
    passed: np.ndarray
    """Float (n,), 0 or 1."""
    clusters: np.ndarray
    """Int (n,)."""


def collect_results(
    cases: Sequence[Case], suite: str, probabilities: np.ndarray, label_set: LabelSet, rule: DecisionRule, is_quoted: bool = True
) -> dict[str, Any]:
    """Return the content of behaviour.json, without what was scored and when; texts only if `is_quoted`.

    `probabilities` are those of `checks.list_texts`, float (n, L).

    Raises: DataError if the model's labels can answer no case.
    """
    outcomes = run_checks(cases, probabilities, label_set, rule)
    clusters = {name: number for number, name in enumerate(dict.fromkeys(outcome.case.cluster for outcome in outcomes.answered))}
    return {
        "version": VERSION,
        "suite": suite,
        "fingerprint": compute_fingerprint(cases),
        "tolerance": TOLERANCE,
        "skipped": len(outcomes.skipped),
        "missing_labels": dict(outcomes.missing_labels.most_common()),
        "decision": rule.to_dict(),
        "capabilities": _rate_capabilities(outcomes, clusters),
        "gaps": find_gaps(cases, probabilities, label_set),
        "cases": [_describe(outcome, clusters[outcome.case.cluster], is_quoted) for outcome in outcomes.answered],
    }


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of behaviour.json.

    Raises: ModelError if the file is damaged.
    """
    values = read_object(path, REMEDY)
    check_values(values, RULES, f"{path}: ", REMEDY)
    for key, rules in {"capabilities": RATE, "cases": CASE, "gaps": GAPS}.items():
        for number, row in enumerate(values[key]):
            check_values(row, rules, f"{path}: {key}[{number}].", REMEDY)
    for number, row in enumerate(gap for of_capability in values["gaps"] for gap in of_capability["gaps"]):
        check_values(row, GAP, f"{path}: gaps[{number}].", REMEDY)
    return values


def has_rule(results: dict[str, Any], rule: DecisionRule) -> bool:
    """Return whether the results are of a decision rule: not after a refit, or with another threshold."""
    decision = results["decision"]
    return (decision.get("thresholds"), decision.get("empty_set")) == (list(rule.thresholds), rule.empty_set)


def list_passed(results: dict[str, Any]) -> PassedCases:
    """Return which cases were passed, from the content of behaviour.json."""
    rows = results["cases"]
    passed, clusters = np.array([row["passed"] for row in rows], dtype=float), np.array([row["cluster"] for row in rows])
    return PassedCases(results["fingerprint"], [row["capability"] for row in rows], [row["id"] for row in rows], passed, clusters)


def _rate_capabilities(outcomes: Outcomes, clusters: dict[str, int]) -> list[dict[str, Any]]:
    """Return the pass rate of every capability with its interval, in the order of the suite."""
    rates = []
    for capability in dict.fromkeys(outcome.case.capability for outcome in outcomes.answered):
        members = [outcome for outcome in outcomes.answered if outcome.case.capability == capability]
        passed = np.array([outcome.is_passed for outcome in members], dtype=float)
        low, high = find_pass_interval(passed, np.array([clusters[outcome.case.cluster] for outcome in members]))
        counts = {"cases": len(members), "hard": sum(outcome.case.is_hard for outcome in members), "passed": int(passed.sum())}
        rates.append({"capability": capability, **counts, "rate": float(passed.mean()), "low": low, "high": high})
    return rates


def _describe(outcome: Outcome, cluster: int, is_quoted: bool) -> dict[str, Any]:
    case = outcome.case
    values = {"id": case.id, "capability": case.capability, "expect": case.expect, "labels": list(case.labels), "hard": case.is_hard}
    values |= {"cluster": cluster, "passed": outcome.is_passed, "excess": round(outcome.excess, 6), "detail": outcome.detail}
    return values | ({"text": case.text, "compare_to": case.compare_to, "reason": case.reason} if is_quoted else {})
