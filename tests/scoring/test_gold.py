"""Scored files with gold labels: what matched is said, and labels that nobody judged count neither for nor against the model."""

import json

import numpy as np
import pytest

from emotion.config import DataConfig
from tests.scoring.oracle import NAMES, hash_text, score

TEXTS = [f"text {number}" for number in range(40)]
GOLD = np.array([[number % 3 == 0, number % 2 == 0, False] for number in range(40)])
PREDICTED = np.array([hash_text(text) for text in TEXTS]) >= 0.5


def score_columns(tmp_path, columns, rows):
    lines = [",".join(["text", *columns]), *(",".join([text, *map(str, row)]) for text, row in zip(TEXTS, rows, strict=True))]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    messages = []
    return score(tmp_path / "a.csv", output=tmp_path / "out.csv", log=messages.append), messages


def test_labels_that_a_file_does_not_have_are_not_judged(tmp_path):
    assert PREDICTED[:, 2].any()  # would be wrong if the missing column counted as no
    tally, messages = score_columns(tmp_path, NAMES[:2], GOLD[:, :2].astype(int))
    true, false, missed = np.array(tally.counts)
    np.testing.assert_array_equal(true, (GOLD & PREDICTED).sum(axis=0))
    np.testing.assert_array_equal(false, [*(~GOLD & PREDICTED)[:, :2].sum(axis=0), 0])
    np.testing.assert_array_equal(missed, (GOLD & ~PREDICTED).sum(axis=0))
    assert tally.num_exact == (GOLD == PREDICTED)[:, :2].all(axis=1).sum()
    assert "data: 2 of the model's 3 labels are judged; the file does not have 'fear'" in messages


def test_empty_cells_are_not_judged(tmp_path):
    rows = [["" if number < 10 else int(row[0]), int(row[1]), 0] for number, row in enumerate(GOLD)]
    tally, _ = score_columns(tmp_path, NAMES, rows)
    judged = np.ones_like(GOLD)
    judged[:10, 0] = False
    np.testing.assert_array_equal(tally.counts[1], (~GOLD & PREDICTED & judged).sum(axis=0))
    assert tally.num_judged == 40


@pytest.mark.parametrize("spell", [str.title, str.upper, lambda name: f" {name} "])
def test_gold_in_another_spelling_is_scored(tmp_path, spell):
    rows = [["|".join(spell(name) for name, is_on in zip(NAMES, row, strict=True) if is_on)] for row in GOLD]
    tally, messages = score_columns(tmp_path, ["labels"], rows)
    np.testing.assert_array_equal(tally.counts[0], (GOLD & PREDICTED).sum(axis=0))
    assert any("labels matched in another spelling" in message for message in messages) == (spell("joy").strip() != "joy")
    assert json.loads((tmp_path / "out.csv.metrics.json").read_text())["num_rows"] == 40


def test_numbers_are_gold_labels_only_in_a_column_that_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("text,stars\n" + "".join(f"{text},{number % 3}\n" for number, text in enumerate(TEXTS)))
    assert score(tmp_path / "a.csv", output=tmp_path / "out.csv").scores is None
    named = score(tmp_path / "a.csv", output=tmp_path / "named.csv", columns=DataConfig(label_column="stars"))
    assert named.num_judged == 40 and np.array(named.counts)[[0, 2]].sum() == 40
