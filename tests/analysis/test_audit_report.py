"""What an audit leaves: the file of decisions can be given back to training, and the page shows texts and labels as they are."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from emotion.analysis.audit.noise import LabelNoise
from emotion.analysis.audit.ranking import LabelIssues
from emotion.analysis.audit.report import CSV_COLUMNS, Audit, check_undecided, format_page, format_table, summarize, write_audit
from emotion.data.reading.corrections import read_decisions
from emotion.errors import ConfigError
from emotion.evaluation.rows import ScoredRows
from emotion.labels import LabelSet
from emotion.text import escape_controls
from tests.evaluation.test_names import NAMES, Cells

LABELS = LabelSet(NAMES)
GENERATOR = np.random.default_rng(0)
GOLD = GENERATOR.random((20, len(NAMES))) < 0.3
IS_FLAGGED = GENERATOR.random(GOLD.shape) < 0.2
IS_FLAGGED[:2] = False
TEXTS = [f"{name} of <b>{row}</b> \"'=1+1\r\nnext" for row, name in enumerate((NAMES * 2)[:20])]
NOISE = [LabelNoise(40 * number, 0.25, (0.1, 0.5), 0.125, (0.0, 0.25), 3.0) for number in range(len(NAMES))]
NAN = float("nan")
NOISE[3] = LabelNoise(0, NAN, (NAN, NAN), NAN, (NAN, NAN), NAN)


def make_audit(names=LABELS):
    rows = ScoredRows([f"id <{row}>" for row in range(20)], names, GOLD, GENERATOR.random(GOLD.shape), None, TEXTS)
    issues = LabelIssues(GOLD, IS_FLAGGED, np.linspace(1, 0, 20))
    return Audit(rows, ["train"] * 15 + ["validation"] * 5, issues, NOISE, "<run>", 4)


def fill_in(path, decide):
    """Write decisions into the file, as a person does, and return its rows."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        row["decision"] = decide(number, row)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, CSV_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_the_file_lists_the_flagged_rows_worst_first_and_is_read_back(tmp_path):
    audit = make_audit()
    write_audit(tmp_path, audit, quote_texts=True)
    rows = fill_in(tmp_path / "audit.csv", lambda number, row: ["", "keep", "drop", row["labels"] or "none"][number % 4])
    flagged = np.flatnonzero(IS_FLAGGED.any(axis=1))[::-1]
    assert [row["id"] for row in rows] == [f"id <{row}>" for row in flagged] and len(rows) > 12
    assert [row["text"] for row in rows] == [TEXTS[row] for row in flagged]
    assert {row["split"] for row in rows} == {"train", "validation"}
    decisions, num_empty = read_decisions(tmp_path / "audit.csv", LABELS)
    assert num_empty == len(rows[::4]) and len(decisions) == len(rows) - num_empty
    for decision in decisions:
        row = int(decision.id.strip("id <>"))
        assert decision.text == TEXTS[row] and (decision.labels is None or decision.labels == np.flatnonzero(GOLD[row]).tolist())
    assert sum(decision.is_drop for decision in decisions) == len(rows[2::4])


def test_cells_name_what_looks_wrong_and_what_looks_missing(tmp_path):
    names = LabelSet(("joy", "fear", "anger"))
    labels, is_flagged = np.array([[True, True, False]]), np.array([[False, True, True]])
    rows = ScoredRows(["7"], names, labels, np.array([[0.9, 0.0213, 0.8]]), None, ["a, text"])
    quality = np.array([0.0312])
    write_audit(tmp_path, Audit(rows, ["train"], LabelIssues(labels, is_flagged, quality), NOISE[:3], "run", 4), True)
    header, line = (tmp_path / "audit.csv").read_text().splitlines()
    assert header == "id,split,text,labels,looks_missing,looks_wrong,probabilities,quality,decision"
    assert line == '7,train,"a, text",joy|fear,anger,fear,fear 0.021|anger 0.800,0.0312,'
    noise = json.loads((tmp_path / "noise.json").read_text())
    assert noise["confused"] == [{"given": "fear", "looks_missing": "anger", "rows": 1}]
    assert noise["labels"][1] == {
        **{"label": "fear", "num_given": 40, "wrong": 0.25, "wrong_interval": [0.1, 0.5], "missing": 0.125},
        **{"missing_interval": [0.0, 0.25], "num_missing": 3.0},
    }
    assert "Northcutt" in noise["source"] and "bootstrap over rows" in noise["interval"]


def test_a_file_without_rows_has_no_decisions(tmp_path):
    """Where nothing is flagged, the file holds the header; the same command may then run again."""
    (tmp_path / "audit.csv").write_text(",".join(CSV_COLUMNS) + "\r\n")
    check_undecided(tmp_path)


def test_no_cell_is_a_formula_in_a_spreadsheet(tmp_path):
    names, labels = LabelSet(("=joy", "fear")), np.array([[True, False]])
    rows = ScoredRows(["-7"], names, labels, np.array([[0.1, 0.2]]), None, ['=HYPERLINK("http://a.b","free")'])
    write_audit(tmp_path, Audit(rows, ["train"], LabelIssues(labels, labels, np.zeros(1)), NOISE[:2], "run", 4), True)
    (row,) = fill_in(tmp_path / "audit.csv", lambda _, row: row["labels"])
    expected = ["'-7", "train", '\'=HYPERLINK("http://a.b","free")', "'=joy", "", "'=joy", "'=joy 0.100", "0.0000", "'=joy"]
    assert list(row.values()) == expected
    (decision,), _ = read_decisions(tmp_path / "audit.csv", names)
    assert decision.labels == [0]


def test_the_page_shows_texts_and_labels_as_they_are():
    audit = make_audit()
    page = format_page(audit, quote_texts=True)
    cells = Cells(page)
    flagged = np.flatnonzero(IS_FLAGGED.any(axis=1))
    assert {escape_controls(TEXTS[row]) for row in flagged} <= {*cells.cells}
    assert {escape_controls(name) for name in NAMES} <= {*cells.cells}
    assert not {"script", "i", "b", "em", "img"} & cells.tags and not any(character in page for character in "\x1b\u202e")
    assert "&lt;run&gt;" in page and "<run>" not in page
    without = format_page(audit, quote_texts=False)
    assert not any(escape_controls(TEXTS[row]) in Cells(without).cells for row in range(20)) and "id &lt;" in without


def test_a_page_of_rows_without_doubt_says_so():
    audit = replace(make_audit(), issues=LabelIssues(GOLD, np.zeros_like(GOLD), np.ones(20)))
    assert "No label looks wrong." in format_page(audit, True) and summarize(audit)[0].startswith(
        "0 of 20 rows have labels that look wrong"
    )


def test_the_table_is_short_and_begins_with_the_label_with_the_most_errors():
    header, *lines, note = format_table(make_audit())
    assert header.split() == ["label", "wrong", "95%", "interval", "missing", "95%", "interval", "given", "in"]
    assert len(lines) == 8 and all(len(line) == len(header) for line in lines) and "600" in lines[0]
    assert note == (
        "Estimates: wrong, of the given labels; missing, of the true labels. "
        f"8 of {len(NAMES)} labels, those with the most errors; index.html and noise.json have all."
    )


def test_decisions_are_not_overwritten(tmp_path):
    check_undecided(tmp_path)
    write_audit(tmp_path, make_audit(), quote_texts=True)
    check_undecided(tmp_path)
    fill_in(tmp_path / "audit.csv", lambda number, row: "keep" if number < 2 else "")
    with pytest.raises(ConfigError, match=r"audit\.csv: has 2 decisions; rename it, for example to reviewed\.csv, or choose another"):
        check_undecided(tmp_path)
    decided = (tmp_path / "audit.csv").read_bytes()
    with pytest.raises(ConfigError, match="has 2 decisions"):  # made while the folds were trained
        write_audit(tmp_path, make_audit(), quote_texts=True)
    assert (tmp_path / "audit.csv").read_bytes() == decided
