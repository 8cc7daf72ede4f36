"""The scores of a report in sentences, for the terminal and the page, and the names of the scores and pictures that are shown."""

from typing import Any

from emotion.evaluation.ceiling import describe_ceiling
from emotion.text import escape_controls

SHOWN_SCORES = {
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "jaccard_samples": "Jaccard index",
    "subset_accuracy": "all labels right",
}
"""Scores at the decision rule that readers are shown first, with their names."""
SHOWN_RANKING_SCORES = {"macro_average_precision": "mean average precision", "expected_calibration_error": "calibration error"}
"""The same for scores of the probabilities."""

FIGURES = {
    "label_f1.png": "F1 of each label with its 95% interval",
    "confusions.png": "Which label is taken for which: rows in which one label was missed and another was predicted wrongly",
    "reliability.png": "Reliability: predicted probability against observed frequency",
    "precision_recall.png": "Precision and recall of each label; the dot is the decision rule",
    "thresholds.png": "F1, precision and recall of each label over its threshold; the line is the decision rule",
    "confusion_matrices.png": "Confusion matrix of each label",
    "co_occurrence.png": "Labels that occur together, gold and predicted",
}
"""Pictures of a report, in the order in which they are shown, with their captions."""
NUM_LABELS_NAMED = 3


def summarize(report: dict[str, Any]) -> list[str]:
    """Return four lines: the scores with their intervals, what the decision rule gives up, the best and worst labels, the calibration.

    Where raters are known, two more are the human ceiling.
    """
    scores, intervals = report["at_decision_rule"], report["at_decision_rule_interval_95"]
    averages = [
        f"{SHOWN_SCORES[name]} {scores[name]:.3f} (95% interval {intervals[name][0]:.3f} to {intervals[name][1]:.3f})"
        for name in ("macro_f1", "micro_f1")
    ]
    error = report["probabilities"]["expected_calibration_error"]
    return [
        f"{report['split']}, {report['num_rows']:,} rows: {', '.join(averages)}",
        _describe_rule(report),
        _describe_labels(report["per_label"]),
        f"calibration: a probability is {error:.3f} off on average (expected calibration error)",
        *(describe_ceiling(report["human_ceiling"]) if "human_ceiling" in report else []),
    ]


def _describe_rule(report: dict[str, Any]) -> str:
    scores = report["at_decision_rule"]
    if not any(row["predicted"] for row in report["per_label"]):
        return "decision rule: gives no text a label"
    missed, wrong = 1 - scores["micro_recall"], 1 - scores["micro_precision"]
    return f"decision rule: misses {missed:.0%} of the labels that people gave; {wrong:.0%} of the labels that it gives are wrong"


def _describe_labels(per_label: list[dict[str, Any]]) -> str:
    """Name the labels with the highest and the lowest F1, of those with gold rows."""
    ranked = sorted((row for row in per_label if row["support"]), key=lambda row: -row["f1"])
    shown = [f"{escape_controls(row['label'])} {row['f1']:.2f}" for row in ranked]
    num_named = min(NUM_LABELS_NAMED, len(ranked) // 2)
    if num_named == 0:
        return f"labels by F1: {', '.join(shown) or 'none is measured'}"
    text = f"labels by F1: best {', '.join(shown[:num_named])}; worst {', '.join(shown[-num_named:][::-1])}"
    hidden = len(per_label) - len(ranked)
    return text + (f"; {hidden:,} without a gold row" if hidden else "")
