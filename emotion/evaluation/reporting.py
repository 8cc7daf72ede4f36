"""The report of one split: metrics.json, per_label.csv and plots on disk, and a text table for the terminal."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emotion.evaluation import metrics, plots
from emotion.evaluation.decision import DecisionRule, default_rule
from emotion.evaluation.uncertainty import bootstrap_intervals, bootstrap_label_intervals
from emotion.files import atomic_write, write_json
from emotion.labels import LabelSet
from emotion.text import escape_controls


def write_report(
    folder: Path, labels: np.ndarray, probabilities: np.ndarray, rule: DecisionRule, label_set: LabelSet, split: str
) -> dict[str, Any]:
    """Write the report of one split to `folder` and return the content of metrics.json, with the rows of per_label.csv added.

    `labels` are bool (n, L) and `probabilities` float (n, L).
    """
    predictions = rule.decide(probabilities)
    per_label = metrics.score_labels(labels, probabilities, predictions, label_set.names)
    for row, (low, high) in zip(per_label, bootstrap_label_intervals(labels, predictions).tolist(), strict=True):
        row |= {"f1_low": low, "f1_high": high}
    matrices = metrics.confusion_matrices(labels, predictions)
    report = {
        "split": escape_controls(split),  # the name of a file, which may hold bytes that are not UTF-8
        "num_rows": len(labels),
        "probabilities": metrics.score_probabilities(labels, probabilities),
        "at_decision_rule": metrics.score_predictions(labels, predictions),
        "at_decision_rule_interval_95": bootstrap_intervals(labels, predictions),
        "at_0.5": metrics.score_predictions(labels, default_rule(len(label_set)).decide(probabilities)),
        "decision": rule.to_dict(),
        "confusion_matrices": {name: matrix.tolist() for name, matrix in zip(label_set.names, matrices, strict=True)},
    }
    write_json(folder / "metrics.json", report)
    with atomic_write(folder / "per_label.csv") as partial:
        pd.DataFrame(per_label).to_csv(partial, index=False, float_format="%.4f", lineterminator="\r\n")  # quotes a lone \r too
    plots.plot_precision_recall(labels, probabilities, predictions, label_set.names, folder / "precision_recall.png")
    plots.plot_thresholds(labels, probabilities, rule.thresholds, label_set.names, folder / "thresholds.png")
    plots.plot_reliability(labels, probabilities, folder / "reliability.png")
    plots.plot_label_f1(per_label, folder / "label_f1.png")
    plots.plot_confusion_matrices(matrices, label_set.names, folder / "confusion_matrices.png")
    plots.plot_co_occurrence(labels, predictions, label_set.names, folder / "co_occurrence.png")
    return report | {"per_label": per_label}


def format_report(report: dict[str, Any]) -> str:
    """Return the report as text: one line per label, then the averages at the decision rule and at threshold 0.5."""
    lines = [f"{'label':<16}{'support':>8}{'precision':>11}{'recall':>8}{'F1':>7}{'AP':>7}"]
    for row in report["per_label"]:
        counts = f"{escape_controls(row['label']):<16}{row['support']:>8,}"
        lines.append(f"{counts}{row['precision']:>11.3f}{row['recall']:>8.3f}{row['f1']:>7.3f}{row['average_precision']:>7.3f}")
    at_rule, at_default, intervals = report["at_decision_rule"], report["at_0.5"], report["at_decision_rule_interval_95"]
    title = f"{report['split']}, {report['num_rows']:,} rows"
    lines += ["", f"{title:<32}{'at the decision rule':>22}{'95% interval':>16}{'at 0.5':>8}"]
    for name in at_rule:
        interval = "{:.3f}-{:.3f}".format(*intervals[name]) if name in intervals else ""
        lines.append(f"{name:<32}{at_rule[name]:>22.3f}{interval:>16}{at_default[name]:>8.3f}")
    lines += [f"{name:<32}{value:>22.3f}" for name, value in report["probabilities"].items()]
    return "\n".join(lines)
