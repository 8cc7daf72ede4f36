"""The sections of a model card that a report fills: scores, labels, and how the model was trained."""

import csv
from dataclasses import dataclass
from typing import Any

from emotion.checks import read_object
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.document import escape_markdown
from emotion.evaluation.summary import SHOWN_RANKING_SCORES, SHOWN_SCORES
from emotion.evaluation.verdict import Verdict
from emotion.export.origins import Origin
from emotion.tracking.run_folder import RunFolder

INDEX_METRICS = ("macro_f1", "micro_f1", "subset_accuracy", "jaccard_samples", "macro_precision", "macro_recall")
"""Scores in the model index of the front matter."""
OPEN_TEST = "The test split has not been opened: `evaluate.py --split test` adds its scores."
OPTIMISTIC = "The thresholds were fitted on these rows, so F1 is optimistic here."
COST_KEYS = {"parameters", "trainable_parameters", "total_seconds", "examples_per_second"}


@dataclass(frozen=True)
class SplitReport:
    """The report of one split, as it stands in its folder."""

    split: str
    metrics: dict[str, Any]
    """Content of metrics.json."""
    labels: list[dict[str, str]]
    """Rows of per_label.csv."""


def find_report(reports: RunFolder, rule: DecisionRule) -> SplitReport | None:
    """Return the report of the test split, or else that of validation; None if neither belongs to this decision rule."""
    for split in ("test", "validation"):
        folder = reports.report(split)
        if not (folder / "metrics.json").is_file():
            continue
        metrics = read_object(folder / "metrics.json", "evaluate the split again")
        fitted = DecisionRule.from_dict(metrics["decision"], len(rule.thresholds), str(folder / "metrics.json"))
        if (fitted.thresholds, fitted.empty_set) != (rule.thresholds, rule.empty_set):  # evaluated with --threshold, or before a refit
            continue
        rows: list[dict[str, str]] = []
        if (folder / "per_label.csv").is_file():
            with (folder / "per_label.csv").open(encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream))
        return SplitReport(split, metrics, rows)
    return None


def format_scores(report: SplitReport, data: str) -> str:
    """Return the scores of a split with their intervals, and the verdict, as Markdown."""
    metrics = report.metrics
    verdict = metrics.get("verdict")
    is_test = report.split == "test"
    rows = f"{metrics['num_rows']:,} {report.split} rows of {escape_markdown(data)}"
    nature = "Nothing was fitted on these rows." if is_test else f"{OPTIMISTIC} {OPEN_TEST}"
    intervals = {key: _format_interval(*bounds) for key, bounds in metrics["at_decision_rule_interval_95"].items()}
    scores, titles = metrics["at_decision_rule"] | metrics["probabilities"], SHOWN_SCORES | SHOWN_RANKING_SCORES
    lines = [
        *([f"**{escape_markdown(str(Verdict(**verdict)))}**", ""] if isinstance(verdict, dict) else []),
        f"{rows}, at the decision rule of `emotion.json`. {nature}",
        "",
        "| metric | value | 95% interval |",
        "|---|---|---|",
        *(f"| {title} | {_round(scores[key])} | {intervals.get(key, '')} |" for key, title in titles.items() if key in scores),
    ]
    return "\n".join([*lines, "", "The intervals are bootstrap intervals over rows; the macro scores are means over the labels."])


def format_labels(report: SplitReport) -> str:
    """Return the scores of every label as a Markdown table."""
    thresholds = report.metrics["decision"]["thresholds"]
    lines = ["| label | F1 | 95% interval | precision | recall | support | threshold |", "|---|---|---|---|---|---|---|"]
    for row, threshold in zip(report.labels, thresholds, strict=True):
        f1, low, high, precision, recall = (row.get(key) or None for key in ("f1", "f1_low", "f1_high", "precision", "recall"))
        cells = [_round(f1) or "not measured", _format_interval(low, high), _round(precision), _round(recall), row["support"]]
        lines.append(f"| {escape_markdown(row['label'])} | {' | '.join(cells)} | {threshold:.2f} |")
    return "\n".join([*lines, "", f"On the {report.split} rows; the support of a label is its number of gold rows."])


def format_training(origin: Origin, run: RunFolder | None) -> str:
    """Return what the model was made of and, once there is a run, with which versions and at what cost, as a Markdown list."""
    paths = [run.environment, run.efficiency, run.speed("test")] if run is not None else []
    environment, efficiency, speed = map(_read, paths) if paths else ({}, {}, {})
    packages = environment.get("packages", {})
    versions = [f"{name} {version}" for name, version in {"Python": environment.get("python"), **packages}.items() if version]
    lines = [
        f"Data: {escape_markdown(origin.data)}{origin.data_note}, license: {origin.data_license or 'not known to this project'}",
        f"Backbone: {escape_markdown(origin.backbone)}, license: {origin.backbone_license or 'not known to this project'}",
        *([f"Language of the texts: {escape_markdown(', '.join(origin.languages))}"] if origin.languages else []),
        *([_describe_cost(efficiency, speed)] if efficiency.keys() >= COST_KEYS else []),
        *([f"Versions: {escape_markdown(', '.join(versions))}"] if versions else []),
    ]
    return "\n".join(f"- {line}" for line in lines)


def list_index_entries(report: SplitReport, origin: Origin) -> list[Any]:
    """Return the entries of the model index for a report of the test split."""
    from huggingface_hub import EvalResult

    task = {"task_type": "text-classification", "task_name": "Multi-label emotion detection"}
    data = {"dataset_type": origin.data, "dataset_name": origin.data.rpartition("/")[2], "dataset_split": report.split}
    scores = {key: report.metrics["at_decision_rule"][key] for key in INDEX_METRICS if key in report.metrics["at_decision_rule"]}
    scores["map"] = report.metrics["probabilities"]["macro_average_precision"]
    return [EvalResult(**task, **data, metric_type=key, metric_value=value) for key, value in scores.items()]


def _describe_cost(efficiency: dict[str, Any], speed: dict[str, Any]) -> str:
    text = (
        f"Cost: {efficiency['parameters']:,} parameters, of which {efficiency['trainable_parameters']:,} were trained, "
        f"in {efficiency['total_seconds']:,.0f} s at {efficiency['examples_per_second']:,.0f} examples/s"
    )
    if {"texts_per_second", "milliseconds_per_text", "device"} <= speed.keys():
        text += f"; inference: {speed['texts_per_second']:,.0f} texts/s in batches, "
        text += f"{speed['milliseconds_per_text']:.0f} ms for one text ({escape_markdown(speed['device'])})"
    return text


def _read(path: Any) -> dict[str, Any]:
    """Return the object in a file of a run; an empty one if there is none."""
    return read_object(path, "restore the file") if path.is_file() else {}


def _round(value: Any) -> str:
    """Return a score with three digits; an empty text for one that was not measured."""
    return "" if value is None else f"{float(value):.3f}"


def _format_interval(low: Any, high: Any) -> str:
    return "" if low is None or high is None else f"{_round(low)} to {_round(high)}"
