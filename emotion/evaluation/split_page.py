"""index.html of a report: scores, labels, confusions, mistakes and figures of one model on one split, on one self-contained page."""

from pathlib import Path
from typing import Any

import numpy as np

from emotion.evaluation.ceiling import MAX_RATERS, MIN_TEXTS, list_ceiling
from emotion.evaluation.document import Block, Figure, Paragraph, Section, Table, escape_markdown, format_html
from emotion.evaluation.mistakes import rank_confusions, rank_errors
from emotion.evaluation.rows import ScoredRows
from emotion.evaluation.summary import SHOWN_RANKING_SCORES, SHOWN_SCORES, summarize
from emotion.evaluation.verdict import Verdict
from emotion.files import atomic_write

MAX_CONFUSED_LABELS = 1_000
"""Pairs of labels are counted for at most this many labels; the counts of a thousand take 8 MB."""


def write_page(path: Path, report: dict[str, Any], rows: ScoredRows, predictions: np.ndarray, figures: dict[str, Figure]) -> None:
    """Write the page of a report.

    Args:
        path: file to write.
        report: content of metrics.json, with the rows of per_label.csv and what `write_report` calls findings.
        rows: the rows of the split; their texts are quoted if they are known.
        predictions: bool (n, L), at the decision rule.
        figures: those of the page, by the names of their files without suffix.
    """
    subject = f"{report['model']} on" if report.get("model") else "Report on"
    sections = [
        Section("Summary", _summarize(report)),
        Section("Scores", [_list_scores(report)]),
        Section("Labels", [_list_labels(report)]),
        *([Section("Raters", [_list_raters(report["human_ceiling"])])] if "all" in report.get("human_ceiling", {}) else []),
        Section("Confusions", [figures["confusions"], *_list_confusions(rows, predictions)]),
        Section("Worst mistakes", _list_errors(rows, predictions)),
        Section("Probabilities", [figures["reliability"]]),
        Section("Decision rule", [figures["precision_recall"], figures["thresholds"]]),
    ]
    with atomic_write(path) as partial:
        partial.write_text(format_html(f"{subject} {report['num_rows']:,} {report['split']} rows", sections), encoding="utf-8")


def _summarize(report: dict[str, Any]) -> list[Block]:
    """Return the verdict, the scores in sentences, the notes, and what was scored and when."""
    verdict = report.get("verdict")
    facts = {"Data": report.get("data"), "Scored": report.get("evaluated"), "Decision rule fitted on": report["decision"].get("fitted_on")}
    return [
        *([Paragraph(f"**{_capitalize(str(Verdict(**verdict)))}.**")] if verdict else []),
        *(Paragraph(f"{_capitalize(line)}.") for line in summarize(report)),
        *(Paragraph(f"Note: {escape_markdown(note)}.") for note in report.get("notes", [])),
        Paragraph(". ".join(f"{name}: {escape_markdown(value)}" for name, value in facts.items() if value) + "."),
    ]


def _list_scores(report: dict[str, Any]) -> Table:
    """Return the scores at the decision rule, with their intervals, and at threshold 0.5."""
    at_rule, at_default, intervals = report["at_decision_rule"], report["at_0.5"], report["at_decision_rule_interval_95"]
    rows = [
        [title, f"{at_rule[name]:.3f}", "{:.3f} to {:.3f}".format(*intervals[name]), f"{at_default[name]:.3f}"]
        for name, title in SHOWN_SCORES.items()
    ]
    rows += [[title, f"{report['probabilities'][name]:.3f}", "", ""] for name, title in SHOWN_RANKING_SCORES.items()]
    note = (
        "At the decision rule, and with 0.5 as the threshold of every label. Bootstrap intervals over rows. Macro averages leave out "
        "labels without a gold row. The last two do not depend on thresholds and have no interval, because both are biased where labels "
        "have few gold rows. `metrics.json` and `table.txt` have further scores."
    )
    return Table("scores", ["score", "value", "95% interval", "at 0.5"], rows, note)


def _list_labels(report: dict[str, Any]) -> Table:
    """Return the labels, best first, with bars of their F1; those without a gold row come last."""
    thresholds = dict(zip((row["label"] for row in report["per_label"]), report["decision"]["thresholds"], strict=True))
    ranked = sorted(report["per_label"], key=lambda row: -row["f1"] if row["support"] else 1)
    rows, bars = [], []
    for row in ranked:
        numbers = [f"{row['support']:,}", f"{row['predicted']:,}", f"{thresholds[row['label']]:.2f}"]
        if row["support"]:
            scores = [f"{row['f1']:.2f}", f"{row['f1_low']:.2f} to {row['f1_high']:.2f}"]
            scores += [f"{row[name]:.2f}" for name in ("precision", "recall", "average_precision")]
        else:
            scores = ["not measured", "", "", "", ""]
        rows.append([row["label"], *scores, *numbers])
        bars.append((row["f1"], row["f1_low"], row["f1_high"]) if row["support"] else None)
    columns = ["label", "F1", "95% interval", "precision", "recall", "AP", "gold rows", "predicted", "threshold"]
    return Table("labels", columns, rows, "The bars are F1 from 0 to 1, the lines on them 95% intervals. AP: average precision.", bars)


def _list_raters(ceiling: dict[str, Any]) -> Table:
    """Return the agreement of the raters, and of the model on the same labels."""
    note = (
        "Each rater against the majority of the other raters of a text (the human ceiling), and the model's labels for the same texts "
        "against the same majority, with 95% intervals over texts. A label that half of the others gave counts as given: "
        f"{ceiling['num_ties']:,} labels are such ties. One rater is noisier than a majority, so a model can be above. Raters may have "
        f"labelled different texts. Those with fewer than {MIN_TEXTS} such texts, or not among the {MAX_RATERS} with most, are one row."
    )
    columns = ["rater", "texts", "macro-F1", "model's macro-F1", "micro-F1", "model's micro-F1"]
    return Table("raters", columns, list_ceiling(ceiling), note)


def _list_confusions(rows: ScoredRows, predictions: np.ndarray) -> list[Block]:
    if len(rows.label_set) > MAX_CONFUSED_LABELS:
        return []
    found = [
        [pair["missed label"], pair["predicted instead"], f"{pair['rows']:,}", f"{pair['fraction of missed']:.0%}"]
        for pair in rank_confusions(rows, predictions)
    ]
    if not found:
        return [Paragraph("No label was missed in a row in which another was predicted wrongly.")]
    return [Table("confusions", ["missed label", "predicted instead", "rows", "fraction of missed"], found)]


def _list_errors(rows: ScoredRows, predictions: np.ndarray) -> list[Block]:
    errors = rank_errors(rows, predictions)
    if not errors:
        return [Paragraph("Every label of every row is right.")]
    note = "The most confident errors, at most one per row. A gold label can be wrong, too: read the texts before you blame the model."
    if rows.texts is None:
        note = "The texts are left out: `evaluate.py` quotes them without `--no-texts`, if the run has `run.quote_texts=true`."
    cells = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in error.values()] for error in errors]
    return [Table("errors", list(errors[0]), cells, note)]


def _capitalize(sentence: str) -> str:
    return escape_markdown(sentence[0].upper() + sentence[1:])
