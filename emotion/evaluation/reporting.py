"""The report of one split: metrics.json, per_label.csv, table.txt, plots and index.html on disk, and texts for the terminal."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emotion.evaluation import metrics, plots
from emotion.evaluation.ceiling import measure_ceiling
from emotion.evaluation.decision import DecisionRule, default_rule
from emotion.evaluation.document import Figure
from emotion.evaluation.drawing import save_figure, save_light_figure
from emotion.evaluation.fonts import use_fonts
from emotion.evaluation.mistakes import count_confusions
from emotion.evaluation.rows import ScoredRows
from emotion.evaluation.split_page import write_page
from emotion.evaluation.summary import FIGURES
from emotion.evaluation.uncertainty import bootstrap_intervals, bootstrap_label_intervals
from emotion.files import atomic_write, write_json
from emotion.text import escape_controls


def write_report(folder: Path, rows: ScoredRows, rule: DecisionRule, split: str, findings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write the report of one split to `folder` and return the content of metrics.json, with the rows of per_label.csv added.

    `findings` is what the report says besides its scores: `notes`, `verdict` and what they rest on.
    """
    predictions = rule.decide(rows.probabilities, rows.is_judged)
    report = score_split(rows, predictions, rule, split) | (findings or {})
    if rows.ratings is not None and (ceiling := measure_ceiling(rows.ratings, predictions)) is not None:
        report["human_ceiling"] = ceiling
    per_label = report.pop("per_label")
    write_json(folder / "metrics.json", report)
    with atomic_write(folder / "per_label.csv") as partial:
        pd.DataFrame(per_label).to_csv(partial, index=False, float_format="%.4f", lineterminator="\r\n")  # quotes a lone \r too
    report["per_label"] = per_label
    with atomic_write(folder / "table.txt") as partial:
        partial.write_text(format_report(report) + "\n", encoding="utf-8")
    write_page(folder / "index.html", report, rows, predictions, draw_figures(folder, report, rows, predictions))
    return report


def score_split(rows: ScoredRows, predictions: np.ndarray, rule: DecisionRule, split: str) -> dict[str, Any]:
    """Return the scores of predictions, bool (n, L), at a decision rule and at threshold 0.5, with one row per label in `per_label`."""
    labels, probabilities, label_set, is_judged = rows.labels, rows.probabilities, rows.label_set, rows.is_judged
    at_default = default_rule(len(label_set)).decide(probabilities, is_judged)
    per_label = metrics.score_labels(labels, probabilities, predictions, label_set.names, is_judged)
    for row, (low, high) in zip(per_label, bootstrap_label_intervals(labels, predictions).tolist(), strict=True):
        row |= {"f1_low": low, "f1_high": high}
    matrices = metrics.confusion_matrices(labels, predictions, is_judged)
    return {
        "split": escape_controls(split),  # the name of a file, which may hold bytes that are not UTF-8
        "num_rows": len(labels),
        "labels_not_measured": [row["label"] for row in per_label if not row["support"]],
        "probabilities": metrics.score_probabilities(labels, probabilities, is_judged),
        "at_decision_rule": metrics.score_predictions(labels, predictions, is_judged),
        "at_decision_rule_interval_95": bootstrap_intervals(labels, predictions),
        "at_0.5": metrics.score_predictions(labels, at_default, is_judged),
        "decision": rule.to_dict(),
        "confusion_matrices": {name: matrix.tolist() for name, matrix in zip(label_set.names, matrices, strict=True)},
        "per_label": per_label,
    }


def draw_figures(folder: Path, report: dict[str, Any], rows: ScoredRows, predictions: np.ndarray) -> dict[str, Figure]:
    """Draw the figures of a report of the most frequent labels into its folder, and return those of its page by their names."""
    per_label, is_judged = report["per_label"], rows.is_judged
    drawn = find_most_frequent(per_label)
    names, num_hidden = [per_label[column]["label"] for column in drawn], len(per_label) - len(drawn)
    labels, probabilities = rows.labels[:, drawn], rows.probabilities[:, drawn]
    matrices = np.array([report["confusion_matrices"][name] for name in names])
    columns = list(metrics.list_judged_columns(labels, probabilities, None if is_judged is None else is_judged[:, drawn]))
    thresholds = [report["decision"]["thresholds"][column] for column in drawn]
    counts = count_confusions(labels, predictions[:, drawn])
    pairs = rows.labels[is_judged].ravel(), rows.probabilities[is_judged].ravel()
    of_page: dict[str, tuple[Any, ...]] = {
        "confusions": (plots.plot_confusions, counts, labels.sum(axis=0), names, num_hidden),
        "reliability": (plots.plot_reliability, *pairs),
        "precision_recall": (plots.plot_precision_recall, columns, matrices, names, num_hidden),
        "thresholds": (plots.plot_thresholds, columns, thresholds, names, num_hidden),
    }
    rows_of_labels, macro_f1 = [per_label[column] for column in drawn], report["at_decision_rule"]["macro_f1"]
    with use_fonts(names):
        save_light_figure(folder / "label_f1.png", plots.plot_label_f1(rows_of_labels, macro_f1, num_hidden))
        save_light_figure(folder / "confusion_matrices.png", plots.plot_confusion_matrices(matrices, names, num_hidden))
        save_light_figure(folder / "co_occurrence.png", plots.plot_co_occurrence(labels, predictions[:, drawn], names, num_hidden))
        return {name: save_figure(folder / f"{name}.png", FIGURES[f"{name}.png"], *parts) for name, parts in of_page.items()}


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
