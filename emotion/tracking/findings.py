"""What a report says besides its scores: whether its rows are a test, which texts mean little, and the verdict on the model."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from emotion.checks import read_object
from emotion.config import BASELINE, Config
from emotion.data.reading.labelled_rows import LabelledRows
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.rows import ScoredRows
from emotion.evaluation.verdict import Verdict, find_obstacle, reach_verdict
from emotion.inference.text_checks import ALL_FIT, describe_counts
from emotion.text import escape_controls
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.run_rows import count_known_texts, is_test

KEYS = ("notes", "known_texts", "text_checks", "verdict")
"""What metrics.json holds of the findings."""
OPTIONAL_KEYS = ("model", "data", "evaluated", "no_verdict")
"""What earlier versions did not write."""


def collect_findings(
    rows: LabelledRows, split: str | None, predictions: np.ndarray, checks: dict[str, int], run: RunFolder | None, config: Config | None
) -> dict[str, Any]:
    """Return what metrics.json holds besides the scores: `notes`, the counts behind them, the `verdict`, and what was scored.

    `split` is that of the run which the rows are, None for a file; `checks` counts texts as `TextChecks.counts`; `config` is that of the
    run. The verdict is null where the rows allow none (`find_obstacle`).
    """
    num_rows = len(rows.examples)
    known, sentence = count_known_texts(run, rows.examples.texts, split)
    notes = [*rows.notes, *([sentence] if sentence is not None else []), *describe_counts(checks, num_rows)]
    verdict: Verdict | None = None
    obstacle = find_obstacle(rows.examples.labels) if is_test(known, num_rows) else "the rows are not a test"
    if obstacle is None:
        tfidf_scores = score_tfidf(rows, config)
        verdict = reach_verdict(rows.examples.labels, predictions, tfidf_scores, rows.examples.is_judged)
    return {
        "notes": notes,
        "known_texts": known,
        "text_checks": checks,
        "verdict": None if verdict is None else verdict.to_dict(),
        "no_verdict": obstacle,
        "model": None if run is None else escape_controls(run.path.resolve().name),
        "data": None if config is None or split is None else escape_controls(config.data.title),
        "evaluated": time.strftime("%Y-%m-%d %H:%M"),
    }


def read_findings(folder: Path) -> dict[str, Any] | None:
    """Return the findings of a report; None if an earlier version wrote it."""
    path = folder / "metrics.json"
    values = read_object(path, "evaluate the split again") if path.is_file() else {}
    return {key: values[key] for key in (*KEYS, *OPTIONAL_KEYS) if key in values} if set(KEYS) <= values.keys() else None


def renew_verdict(findings: dict[str, Any], rows: ScoredRows, rule: DecisionRule) -> dict[str, Any]:
    """Return the findings with the verdict on another rule for the same rows; the score of TF-IDF stays."""
    if findings["verdict"] is None:
        return findings
    predictions, tfidf_scores = rule.decide(rows.probabilities), findings["verdict"]["scores"].get("TF-IDF")
    verdict = reach_verdict(rows.labels, predictions, tfidf_scores, rows.is_judged)
    return findings | {"verdict": None if verdict is None else verdict.to_dict()}


def score_tfidf(rows: LabelledRows, config: Config | None) -> dict[str, float] | None:
    """Return the scores of TF-IDF on the rows; None for TF-IDF itself, without training rows, or where it would take more than seconds."""
    if config is None or config.model.backbone == BASELINE or not {"train", "validation"} <= rows.splits.keys():
        return None
    from emotion.modeling.reference import score_reference

    return score_reference(rows.splits["train"], rows.splits["validation"], rows.examples, config.decision)


def format_findings(findings: dict[str, Any]) -> list[str]:
    """Return notes and verdict as lines; the verdict is the last one."""
    notes = [f"note: {note}" for note in findings["notes"]]
    if findings["text_checks"].get("cut") == 0 and not findings["text_checks"].get("split"):
        notes.insert(0, f"note: {ALL_FIT}")
    if findings["verdict"] is not None:
        return [*notes, str(Verdict(**findings["verdict"]))]
    is_known = findings["known_texts"].get("train", 0) > 0  # an earlier version did not write the reason
    reason = findings.get("no_verdict") or ("the rows are not a test" if is_known else "no row has a gold label")
    return [*notes, f"verdict: none: {reason}"]
