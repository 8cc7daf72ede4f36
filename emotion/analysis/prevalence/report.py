"""The report on prevalences: report.html, report.md, prevalence.csv, changes.csv and figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.analysis.prevalence.cells import Cell, CellKey
from emotion.analysis.prevalence.changes import Change, Prevalences
from emotion.analysis.prevalence.figures import Series, format_percent, plot_groups, plot_periods
from emotion.analysis.prevalence.grouping import list_periods
from emotion.analysis.prevalence.signs import Sign
from emotion.analysis.prevalence.validation import MIN_POSITIVES, ValidationRows
from emotion.analysis.prevalence.words import METHOD, POOR_FIT, conclude, format_interval, name_cell
from emotion.evaluation.document import Block, Paragraph, Section, Table, escape_markdown, format_plain, write_document
from emotion.evaluation.drawing import save_figure
from emotion.evaluation.fonts import use_fonts
from emotion.files import write_csv
from emotion.labels import LabelSet

MAX_LINES = 4
"""Groups that the time lines show one by one; of more, all rows together."""
MAX_GROUPS, MAX_GROUP_LABELS = 12, 12
MAX_CHANGES = 20
MAX_EXAMPLES = 5
"""Changes of which rows are quoted."""
MAX_LABELS = 60
MAX_PERIODS = 5_000
"""Periods on a time line that shows those without rows: a mistyped year would add a hundred thousand days."""
MAX_SIGNS = 20
TEXT_CHARACTERS = 300
SOMETIMES = ("periods", "groups", "top_changes", "examples", "poor_fit", "signs")
"""Tables and figures that depend on what is found, and on whether texts are quoted."""


@dataclass(frozen=True)
class Analysis:
    """All that the report is written from."""

    label_set: LabelSet
    cells: Mapping[CellKey, Cell]
    validation: ValidationRows
    prevalences: Prevalences
    signs: Sequence[Sign]
    notes: Sequence[str]
    """What to know about the reading of the rows."""

    @property
    def rows(self) -> dict[CellKey, int]:
        """The row of each cell in the arrays of `prevalences`."""
        return {key: row for row, key in enumerate(self.prevalences.keys)}

    def select(self, keys: Iterable[CellKey], labels: Sequence[int], name: str = "") -> Series:
        """Return the prevalences of labels in cells; nan for a cell that is too small or does not exist."""
        size = (len(keys := list(keys)), len(labels))
        series = Series(name, np.full(size, np.nan), np.full((*size, 2), np.nan), np.zeros(size, dtype=bool))
        for number, key in enumerate(keys):
            if key in self.cells and not self.cells[key].is_small:
                series.estimates[number] = self.prevalences.estimates[self.rows[key], labels]
                series.bounds[number] = self.prevalences.bounds[self.rows[key], labels]
                series.is_misfit[number] = self.prevalences.is_misfit[self.rows[key], labels]
        return series


def write_prevalences(folder: Path, analysis: Analysis, quote_texts: bool) -> list[str]:
    """Write the report, and return the sentences of its summary in Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    conclusion = conclude(analysis.prevalences, analysis.cells, analysis.label_set, len(analysis.signs))
    groups = [key.group for key in analysis.cells if key.group and not key.period and not key.is_rest]
    periods = [key.period for key in analysis.cells if key.period and not key.group and not key.is_rest]
    with use_fonts([*analysis.label_set.names, *groups]):
        sections = [
            Section("Summary", [Paragraph(sentence) for sentence in conclusion]),
            *([Section("Over time", _report_periods(folder, analysis, periods, groups))] if periods else []),
            *([Section("Groups", _report_groups(folder, analysis, groups))] if groups else []),
            *([Section("Differences", _report_changes(analysis))] if analysis.prevalences.changes else []),
            *(_quote_examples(analysis) if quote_texts else []),
            Section("Warning signs", _report_misfits(analysis) + _report_signs(analysis.signs)),
            Section("Labels", [_list_labels(analysis)]),
            Section("Method", [Paragraph(METHOD), *(Paragraph(escape_markdown(note)) for note in analysis.notes)]),
        ]
    title = f"Prevalence of {len(analysis.label_set)} labels in {analysis.cells[CellKey()].num_rows:,} rows"
    write_document(folder, title, sections, SOMETIMES)
    write_csv(folder / "prevalence.csv", _list_prevalences(analysis))
    write_csv(folder / "changes.csv", _list_changes(analysis))
    return conclusion


def _report_periods(folder: Path, analysis: Analysis, periods: Sequence[str], groups: Sequence[str]) -> list[Block]:
    labels, between = _rank_labels(analysis)[:MAX_LABELS], list_periods(periods[0], periods[-1])
    periods = between if len(between) <= MAX_PERIODS else periods  # one without rows is a gap
    if 1 < len(groups) <= MAX_LINES:
        series = [analysis.select([CellKey(period, group) for period in periods], labels, group) for group in groups]
        caption = "Prevalence over time in each group, with 95% intervals."
    else:
        series = [analysis.select([CellKey(period) for period in periods], labels)]
        caption = "Prevalence over time in all rows, with 95% intervals."
    names = [analysis.label_set.names[label] for label in labels]
    caption = f"{caption} Open points: poor fit. All values are in prevalence.csv."
    return [save_figure(folder / "periods.png", caption, plot_periods, series, names, periods)]


def _report_groups(folder: Path, analysis: Analysis, groups: Sequence[str]) -> list[Block]:
    largest = sorted(groups, key=lambda group: -analysis.cells[CellKey("", group)].num_rows)[:MAX_GROUPS]
    tested = [change.label for change in analysis.prevalences.changes if not change.second.period and change.second.group]
    labels = list(dict.fromkeys([*tested, *_rank_labels(analysis)]))[:MAX_GROUP_LABELS]
    names = [analysis.label_set.names[label] for label in labels]
    keys = [CellKey("", group) for group in largest]
    titles = [f"{group} ({analysis.cells[key].num_rows:,})" for group, key in zip(largest, keys, strict=True)]
    which = "labels with the clearest differences between groups" if tested else "most common labels"
    caption = f"The {len(labels)} {which}; in parentheses: rows; open points: poor fit."
    if len(groups) > len(largest):
        caption += f" {len(groups) - len(largest):,} smaller groups are in prevalence.csv."
    return [save_figure(folder / "groups.png", caption, plot_groups, analysis.select(keys, labels), names, titles)]


def _report_changes(analysis: Analysis) -> list[Block]:
    changes, prevalences = analysis.prevalences.changes, analysis.prevalences
    rows = [
        [
            analysis.label_set.names[change.label],
            f"{_name(change.first)} → {_name(change.second)}",
            *(format_percent(prevalences.estimates[analysis.rows[key], change.label]) for key in (change.first, change.second)),
            f"{100 * change.difference:+.1f} ({100 * change.interval[0]:+.1f} to {100 * change.interval[1]:+.1f})",
            f"{change.p_value:.3f}" if change.p_value >= 0.001 else "< 0.001",
            ("change" if change.is_shown else "no change shown") + (", poor fit" if prevalences.has_poor_fit(change) else ""),
        ]
        for change in changes[:MAX_CHANGES]
    ]
    note = (
        f"The {min(len(changes), MAX_CHANGES):,} of {len(changes):,} differences with the smallest p-values; all are in `changes.csv`. "
        "p-values are corrected by Holm's method for the number of differences; the intervals are not. Each period is compared with all "
        "other periods, each group with all other groups."
    )
    return [Table("top_changes", ["label", "between", "from", "to", "points", "p", "verdict"], rows, note)]


def _quote_examples(analysis: Analysis) -> list[Section]:
    """Return typical rows of the largest changes: a random sample of the rows for which the label is predicted."""
    shown = sorted((change for change in analysis.prevalences.changes if change.is_shown), key=lambda change: -abs(change.difference))
    rows = []
    for change in shown[:MAX_EXAMPLES]:
        key = change.second if change.difference > 0 else change.first
        for _, text in analysis.cells[key].examples.get(change.label, []):
            rows.append([analysis.label_set.names[change.label], _name(key), text[:TEXT_CHARACTERS]])
    note = "A random sample of the rows in which the label is predicted, where it is more common. Single predictions are often wrong."
    return [Section("Typical rows", [Table("examples", ["label", "group", "text"], rows, note)])] if rows else []


def _report_misfits(analysis: Analysis) -> list[Block]:
    """Return the labels that have a poor fit, by group."""
    misfits, names = analysis.prevalences.misfits, analysis.label_set.names
    rows = [[_name(key), f"{len(labels):,}", ", ".join(names[label] for label in labels)] for key, labels in misfits.items()][:MAX_SIGNS]
    note = (
        f"{len(misfits):,} groups have labels with a poor fit: their probabilities are no mixture of those of the validation rows with "
        "the label and without it, so the texts are not like these rows. The estimates may be wrong by more than the intervals say."
    )
    return [Table("poor_fit", ["group", "labels with a poor fit", "which"], rows, note)] if rows else []


def _report_signs(signs: Sequence[Sign]) -> list[Block]:
    if not signs:
        return [
            Paragraph(
                "In length, confidence and other measures of texts, no group differs from the validation rows beyond chance and by much."
            )
        ]
    rows = [[_name(sign.key), sign.describe()] for sign in signs[:MAX_SIGNS]]
    note = (
        f"{len(signs):,} in all, the clearest first. Where texts differ from the validation rows, the correction may be wrong by more than "
        "the intervals say: label some rows of such a group and compare."
    )
    return [Table("signs", ["group", "differs in"], rows, note)]


def _list_labels(analysis: Analysis) -> Table:
    """Return each label's prevalence in all rows, beside the plain count, and how many validation rows it rests on."""
    row = analysis.rows[CellKey()]
    rows = []
    for label in _rank_labels(analysis):
        estimate, support = analysis.prevalences.estimates[row, label], int(analysis.validation.supports[label])
        is_known = np.isfinite(estimate) and not analysis.cells[CellKey()].is_small
        rows.append(
            [
                analysis.label_set.names[label],
                format_percent(estimate) if is_known else "unknown",
                format_interval(analysis.prevalences.bounds[row, label]) if is_known else "",
                format_percent(analysis.prevalences.counts[row, label]),
                f"{support:,}",
                _remark(analysis, row, label),
            ]
        )
    columns = ["label", "prevalence", "95% interval", "plain count", "validation rows", "remark"]
    return Table("labels", columns, rows, "All rows. Plain count: the fraction of rows for which the label is predicted, not corrected.")


def _remark(analysis: Analysis, row: int, label: int) -> str:
    """Return what speaks against the estimate of a label in a cell."""
    if analysis.cells[analysis.prevalences.keys[row]].is_small:
        return "too few rows"
    if np.isnan(analysis.prevalences.estimates[row, label]):
        return "no validation rows with it" if analysis.validation.supports[label] == 0 else "no validation rows without it"
    if analysis.prevalences.is_misfit[row, label]:
        return POOR_FIT
    is_rare = analysis.validation.supports[label] < MIN_POSITIVES
    return "few validation rows: intervals may be too narrow" if is_rare else ""


def _list_prevalences(analysis: Analysis) -> list[list[Any]]:
    lines: list[list[Any]] = [["period", "group", "rows", "label", "prevalence", "low", "high", "plain_count", "remark"]]
    for key, row in analysis.rows.items():
        cell = analysis.cells[key]
        for label, name in enumerate(analysis.label_set.names):
            is_known = not cell.is_small and np.isfinite(analysis.prevalences.estimates[row, label])
            values = [analysis.prevalences.estimates[row, label], *analysis.prevalences.bounds[row, label]] if is_known else []
            numbers = [f"{value:.6f}" for value in values] or ["", "", ""]
            count, remark = f"{analysis.prevalences.counts[row, label]:.6f}", _remark(analysis, row, label)
            lines.append([*key.columns, cell.num_rows, name, *numbers, count, remark])
    return lines


def _list_changes(analysis: Analysis) -> list[list[Any]]:
    cells = ["first_period", "first_group", "second_period", "second_group"]
    columns = ["label", *cells, "difference", "low", "high", "p_value", "is_shown", "remark"]
    return [columns, *(_list_change(change, analysis) for change in analysis.prevalences.changes)]


def _list_change(change: Change, analysis: Analysis) -> list[Any]:
    numbers = [f"{value:.6f}" for value in (change.difference, *change.interval, change.p_value)]
    name, remark = analysis.label_set.names[change.label], POOR_FIT if analysis.prevalences.has_poor_fit(change) else ""
    return [name, *change.first.columns, *change.second.columns, *numbers, str(change.is_shown).lower(), remark]


def _rank_labels(analysis: Analysis) -> list[int]:
    """Return the labels, the most common one first; those without an estimate last."""
    estimates = analysis.prevalences.estimates[analysis.rows[CellKey()]]
    return [int(label) for label in np.argsort(-np.nan_to_num(estimates, nan=-1.0), kind="stable")]


def _name(key: CellKey) -> str:
    return format_plain(name_cell(key))
