"""What an audit leaves: audit.csv to work through, index.html with the same, noise.json, and a table for the terminal."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.analysis.audit.noise import ESTIMATOR, INTERVAL, SOURCE, LabelNoise
from emotion.analysis.audit.ranking import LabelIssues
from emotion.data.reading.corrections import COLUMNS, DROP, KEEP, NO_LABEL
from emotion.data.reading.tables import read_table
from emotion.errors import ConfigError
from emotion.evaluation.document import Block, Paragraph, Section, Table, escape_markdown, format_html
from emotion.evaluation.mistakes import rank_confusions
from emotion.evaluation.rows import ScoredRows
from emotion.files import atomic_write, write_csv, write_json
from emotion.labels import LabelSet
from emotion.text import escape_controls, escape_formula

CSV_COLUMNS = ("id", "split", "text", "labels", "looks_missing", "looks_wrong", "probabilities", "quality", "decision")
SEPARATOR = "|"
MAX_ROWS_ON_PAGE = 500
MAX_PAIRS = 30
MAX_LABELS_ON_TERMINAL = 8
FEW_ROWS = 30
"""Labels that are given in fewer rows are marked: their estimates say little."""


@dataclass(frozen=True)
class Audit:
    """All that the output is written from."""

    rows: ScoredRows
    """The audited rows with their out-of-fold probabilities; `texts` are known."""
    splits: Sequence[str]
    """The split of each row."""
    issues: LabelIssues
    noise: Sequence[LabelNoise]
    run: str
    num_folds: int

    @property
    def label_set(self) -> LabelSet:
        return self.rows.label_set

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """How often a label looks wrong where another one looks missing, the most frequent pair first."""
        suggested = (self.issues.labels & ~self.issues.is_wrong) | self.issues.is_missing
        found = rank_confusions(self.rows, suggested, MAX_PAIRS)
        return [{"given": pair["missed label"], "looks_missing": pair["predicted instead"], "rows": pair["rows"]} for pair in found]


def check_undecided(folder: Path) -> None:
    """Raise a ConfigError if the folder has an audit.csv with decisions: a person's work is not overwritten."""
    path = folder / "audit.csv"
    if not path.is_file():
        return
    if len(path.read_bytes().splitlines()) < 2:  # the header alone: nothing was flagged
        return
    table = read_table(path, names=set(COLUMNS))
    decided = [value for value in table.values("decision") if str(value or "").strip()] if "decision" in table.columns else []
    if decided:
        raise ConfigError(f"{path}: has {len(decided):,} decisions; rename it, for example to reviewed.csv, or choose another --output")


def write_audit(folder: Path, audit: Audit, quote_texts: bool) -> None:
    """Write audit.csv, noise.json and index.html; each is written beside and renamed.

    Raises: ConfigError as `check_undecided`: the folds may have trained for hours, and a person may have decided on the rows meanwhile.
    """
    check_undecided(folder)
    write_csv(folder / "audit.csv", [CSV_COLUMNS, *(_list_cells(audit, row) for row in audit.issues.order)], errors="surrogateescape")
    write_json(folder / "noise.json", describe_noise(audit))
    with atomic_write(folder / "index.html") as partial:
        partial.write_text(format_page(audit, quote_texts), encoding="utf-8")


def _list_cells(audit: Audit, row: int) -> list[str]:
    """Return the cells of a row in audit.csv, in which a spreadsheet finds no formula."""
    names, issues, texts = audit.label_set.names, audit.issues, audit.rows.texts
    assert texts is not None
    shown = [int(column) for column in np.flatnonzero(issues.is_flagged[row])]
    probabilities = SEPARATOR.join(f"{names[column]} {audit.rows.probabilities[row, column]:.3f}" for column in shown)
    sets = (issues.labels, issues.is_missing, issues.is_wrong)
    labels = [join_labels(audit.label_set.decode(values[row]), audit.label_set) for values in sets]
    cells = [audit.rows.ids[row], audit.splits[row], texts[row], *labels, probabilities]
    return [*map(escape_formula, cells), f"{issues.quality[row]:.4f}", ""]


def join_labels(names: list[str], label_set: LabelSet) -> str:
    """Return names as one cell; a JSON list if a name of the set contains the separator."""
    is_ambiguous = any(SEPARATOR in name for name in label_set.names)
    return json.dumps(names, ensure_ascii=False) if is_ambiguous and names else SEPARATOR.join(names)


def describe_noise(audit: Audit) -> dict[str, Any]:
    """Return the content of noise.json."""
    named = zip(audit.label_set.names, audit.noise, strict=True)
    return {
        "run": audit.run,
        "folds": audit.num_folds,
        "rows": len(audit.rows.ids),
        "rows_that_look_wrong": len(audit.issues.order),
        "estimator": ESTIMATOR,
        "source": SOURCE,
        "interval": INTERVAL,
        "labels": [{"label": name} | asdict(noise) for name, noise in named],
        "confused": audit.pairs,
    }


def format_page(audit: Audit, quote_texts: bool) -> str:
    """Return index.html, one self-contained page."""
    sections = [
        Section("Summary", [Paragraph(escape_markdown(sentence)) for sentence in summarize(audit)]),
        Section("Rows", [_list_rows(audit, quote_texts)]),
        Section("Labels", [_list_labels(audit)]),
        Section("Confused labels", [_list_pairs(audit)]),
        Section("Method", [Paragraph(escape_markdown(f"Noise estimates: {ESTIMATOR}. Source: {SOURCE}. Intervals: {INTERVAL}."))]),
    ]
    return format_html(f"Labels of {len(audit.rows.ids):,} rows of {audit.run} that look wrong", sections)


def summarize(audit: Audit) -> list[str]:
    """Return the result in sentences."""
    issues, num_rows = audit.issues, len(audit.rows.ids)
    return [
        f"{len(issues.order):,} of {num_rows:,} rows have labels that look wrong: {int(issues.is_wrong.sum()):,} given labels look wrong, "
        f"{int(issues.is_missing.sum()):,} look missing, by {audit.num_folds} models that have not seen the row.",
        f"A model errs too: read each text. In audit.csv, write {KEEP}, {DROP}, {NO_LABEL} (no label) or the right labels, separated by "
        f"{SEPARATOR}, into the column decision, save it as reviewed.csv, and train with data.corrections set to that file.",
    ]


def _list_rows(audit: Audit, quote_texts: bool) -> Block:
    shown = audit.issues.order[:MAX_ROWS_ON_PAGE]
    if not len(shown):
        return Paragraph("No label looks wrong.")
    names, probabilities, texts = audit.label_set.names, audit.rows.probabilities, audit.rows.texts
    assert texts is not None

    def describe(title: str, is_on: np.ndarray, row: int) -> str:
        found = [f"{names[column]} {probabilities[row, column]:.2f}" for column in np.flatnonzero(is_on[row])]
        return f"; {title}: {', '.join(found)}" if found else ""

    lines = []
    for row in shown:
        given = ", ".join(audit.label_set.decode(audit.issues.labels[row])) or "(none)"
        doubts = describe("looks wrong", audit.issues.is_wrong, row) + describe("looks missing", audit.issues.is_missing, row)
        lines.append([audit.rows.ids[row], *([texts[row]] if quote_texts else []), f"given: {given}{doubts}"])
    note = f"The {len(shown):,} most doubtful of {len(audit.issues.order):,} rows, worst first. The other ones are in `audit.csv`."
    note = note if len(shown) < len(audit.issues.order) else "Worst first, as in `audit.csv`."
    columns = ["id", *(["text"] if quote_texts else []), "labels"]
    return Table("rows", columns, lines, f"{note} Beside a label stands its out-of-fold probability.")


def _list_labels(audit: Audit) -> Table:
    lines, bars = [], []
    for name, noise in _rank_labels(audit):
        lines.append([name, *_format_estimates(noise), f"{noise.num_given:,}", "few rows" if noise.num_given < FEW_ROWS else ""])
        bars.append((noise.wrong, *noise.wrong_interval) if np.isfinite(noise.wrong) else None)
    note = (
        "Wrong: estimated fraction of the given labels that are wrong, drawn as a bar. Missing: estimated fraction of the true labels that "
        "are not given. Where a model knows a label badly, both are too high."
    )
    columns = ["label", "wrong", "95% interval", "missing", "95% interval", "given in rows", "remark"]
    return Table("labels", columns, lines, note, bars)


def _list_pairs(audit: Audit) -> Block:
    if not (pairs := audit.pairs):
        return Paragraph("No label looks wrong in a row in which another looks missing.")
    lines = [[pair["given"], pair["looks_missing"], f"{pair['rows']:,}"] for pair in pairs]
    return Table("confused", ["given, looks wrong", "looks missing", "rows"], lines)


def format_table(audit: Audit) -> list[str]:
    """Return the lines of the table for the terminal, the labels with the most rows that are estimated to be in error, and a note."""
    ranked = [(escape_controls(name), noise) for name, noise in _rank_labels(audit) if np.isfinite(noise.wrong)]
    shown = [(name, *_format_estimates(noise), f"{noise.num_given:,}") for name, noise in ranked[:MAX_LABELS_ON_TERMINAL]]
    header = ("label", "wrong", "95% interval", "missing", "95% interval", "given in")
    widths = [max(len(line[column]) for line in (header, *shown)) for column in range(len(header))]
    lines = []
    for name, *cells in (header, *shown):
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *aligned]))
    which = f"{len(shown)} of {len(audit.noise)} labels, those with the most errors; index.html and noise.json have all"
    return [*lines, f"Estimates: wrong, of the given labels; missing, of the true labels. {which}."]


def _rank_labels(audit: Audit) -> list[tuple[str, LabelNoise]]:
    """Return (name, estimates) of each label: those with the most rows in error first, those without an estimate last."""

    def count_errors(pair: tuple[str, LabelNoise]) -> float:
        noise = pair[1]
        return noise.num_given * noise.wrong + noise.num_missing if np.isfinite(noise.wrong) else -1.0

    return sorted(zip(audit.label_set.names, audit.noise, strict=True), key=lambda pair: -count_errors(pair))


def _format_estimates(noise: LabelNoise) -> list[str]:
    """Return the cells of both estimates with their intervals; empty cells where there are none."""
    if not np.isfinite(noise.wrong):
        return ["", "", "", ""]
    parts = ((noise.wrong, noise.wrong_interval), (noise.missing, noise.missing_interval))
    return [cell for value, (low, high) in parts for cell in (f"{value:.0%}", f"{low:.0%} to {high:.0%}")]
