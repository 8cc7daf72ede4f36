"""The report of one split: metrics.json, per_label.csv and plots on disk, and a text table for the terminal."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emotion.evaluation import metrics, plots
from emotion.evaluation.decision import DecisionRule, default_rule
from emotion.evaluation.fonts import use_fonts
from emotion.evaluation.uncertainty import bootstrap_intervals, bootstrap_label_intervals
from emotion.files import atomic_write, write_json
from emotion.labels import LabelSet
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


def write_report(
    folder: Path,
    labels: np.ndarray,
    probabilities: np.ndarray,
    rule: DecisionRule,
    label_set: LabelSet,
    split: str,
    is_judged: np.ndarray | None = None,
) -> dict[str, Any]:
    """Write the report of one split to `folder` and return the content of metrics.json, with the rows of per_label.csv added.

    `labels` are bool (n, L) and `probabilities` float (n, L); `is_judged` is as in `metrics`.
    """
    predictions = rule.decide(probabilities, is_judged)
    at_default = default_rule(len(label_set)).decide(probabilities, is_judged)
    per_label = metrics.score_labels(labels, probabilities, predictions, label_set.names, is_judged)
    for row, (low, high) in zip(per_label, bootstrap_label_intervals(labels, predictions).tolist(), strict=True):
        row |= {"f1_low": low, "f1_high": high}
    matrices = metrics.confusion_matrices(labels, predictions, is_judged)
    report: dict[str, Any] = {
        "split": escape_controls(split),  # the name of a file, which may hold bytes that are not UTF-8
        "num_rows": len(labels),
        "labels_not_measured": [row["label"] for row in per_label if not row["support"]],
        "probabilities": metrics.score_probabilities(labels, probabilities, is_judged),
        "at_decision_rule": metrics.score_predictions(labels, predictions),
        "at_decision_rule_interval_95": bootstrap_intervals(labels, predictions),
        "at_0.5": metrics.score_predictions(labels, at_default),
        "decision": rule.to_dict(),
        "confusion_matrices": {name: matrix.tolist() for name, matrix in zip(label_set.names, matrices, strict=True)},
    }
    write_json(folder / "metrics.json", report)
    with atomic_write(folder / "per_label.csv") as partial:
        pd.DataFrame(per_label).to_csv(partial, index=False, float_format="%.4f", lineterminator="\r\n")  # quotes a lone \r too

    drawn = find_most_frequent(per_label)
    names, num_hidden = [label_set.names[column] for column in drawn], len(label_set) - len(drawn)
    mask = None if is_judged is None else is_judged[:, drawn]
    columns = list(metrics.list_judged_columns(labels[:, drawn], probabilities[:, drawn], mask))
    thresholds, macro_f1 = [rule.thresholds[column] for column in drawn], report["at_decision_rule"]["macro_f1"]
    with use_fonts(names):
        plots.plot_precision_recall(columns, matrices[drawn], names, folder / "precision_recall.png", num_hidden)
        plots.plot_thresholds(columns, thresholds, names, folder / "thresholds.png", num_hidden)
        plots.plot_reliability(labels[is_judged].ravel(), probabilities[is_judged].ravel(), folder / "reliability.png")
        plots.plot_label_f1([per_label[column] for column in drawn], macro_f1, folder / "label_f1.png", num_hidden)
        plots.plot_confusion_matrices(matrices[drawn], names, folder / "confusion_matrices.png", num_hidden)
        plots.plot_co_occurrence(labels[:, drawn], predictions[:, drawn], names, folder / "co_occurrence.png", num_hidden)
    return report | {"per_label": per_label}


def format_report(report: dict[str, Any]) -> str:
    """Return the report as text: one line per label, then the averages at the decision rule and at threshold 0.5."""
    lines = [f"{'label':<16}{'support':>8}{'precision':>11}{'recall':>8}{'F1':>7}{'AP':>7}"]
    per_label = report["per_label"]
    shown = find_most_frequent(per_label)
    for row in (per_label[column] for column in shown):
        counts = f"{escape_controls(row['label']):<16}{row['support']:>8,}"
        scores = f"{row['precision']:>11.3f}{row['recall']:>8.3f}{row['f1']:>7.3f}{row['average_precision']:>7.3f}"
        lines.append(counts + (scores if row["support"] else f"{'not measured: no gold row':>33}"))
    if len(shown) < len(per_label):
        lines.append(f"and {len(per_label) - len(shown):,} rarer labels, in per_label.csv")
    at_rule, at_default, intervals = report["at_decision_rule"], report["at_0.5"], report["at_decision_rule_interval_95"]
    title = f"{report['split']}, {report['num_rows']:,} rows"
    lines += ["", f"{title:<32}{'at the decision rule':>22}{'95% interval':>16}{'at 0.5':>8}"]
    for name in at_rule:
        interval = "{:.3f}-{:.3f}".format(*intervals[name]) if name in intervals else ""
        lines.append(f"{name:<32}{at_rule[name]:>22.3f}{interval:>16}{at_default[name]:>8.3f}")
    lines += [f"{name:<32}{value:>22.3f}" for name, value in report["probabilities"].items()]
    return "\n".join(lines)


def find_most_frequent(per_label: list[dict[str, Any]]) -> np.ndarray:
    """Return the columns of the labels with most gold rows, at most `plots.MAX_LABELS_SHOWN`, in their order."""
    support = np.array([row["support"] for row in per_label])
    return np.sort(np.argsort(-support, kind="stable")[: plots.MAX_LABELS_SHOWN])
