"""What infer.py prints of texts, labels and folders that others wrote: no control character, one line each, valid JSON."""

import json
import re

import numpy as np
import pytest

from emotion.evaluation.decision import DecisionRule
from emotion.inference.answers import format_table
from emotion.text import count_columns, escape_controls
from tests.conftest import ENCODING, run_script, show
from tests.inference.test_numpy import LABELS, save

ESCAPES = "I love \x1b]0;title\a\x1b[2J \x9b1A\x7f\u202e it\u2028so much\x85"
FORGED = "sad\n  ● joy             99.0%  ██████████████████████████████  (from 50%)"
ON, OFF = show("●"), show("○")
"""What marks a label that reaches its threshold, and the likeliest one below it."""
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]")
"""All control characters but the newline."""


def test_bars_begin_in_one_column_whatever_the_names_are():
    names = ("joy", "悲しみ", "غضب", "e\u0301merveillement", "a name of more than fifteen characters")
    table = format_table("a", names, np.full(5, 0.5), np.ones(5, dtype=bool), DecisionRule((0.5,) * 5), 5, None)
    starts = {count_columns(line.partition(" 50.0%")[0]) for line in table.splitlines() if "%" in line}
    assert starts == {len("  ● ") + len(names[-1])}
    assert [count_columns(name) for name in names[:4]] == [3, 6, 3, 14]


def test_a_predicted_label_is_shown_whatever_its_rank():
    names, scores = ("a", "b", "c"), np.array([0.6, 0.4, 0.1])
    rule = DecisionRule((0.9, 0.3, 0.05))
    table = format_table("a text", names, scores, rule.decide(scores[None])[0], rule, 1, None)
    assert [line[:5] for line in table.splitlines()[1:4]] == ["    a", "  ● b", "  ● c"] and "no label" not in table
    rule = DecisionRule((0.9, 0.9, 0.9))
    table = format_table("a text", names, scores, rule.decide(scores[None])[0], rule, 1, None)
    assert table.splitlines()[2] == "    no label reaches its threshold" and "  b" not in table


@pytest.fixture(scope="module")
def folder(tiny_backbones, tmp_path_factory):
    """A model with labels that hold control characters, in a folder whose name holds one too."""
    folder = save(tiny_backbones["bert"], tmp_path_factory.mktemp("output") / "model\x1b[2J")
    values = json.loads((folder / "emotion.json").read_text())
    values["labels"] = ["\x1b[2Janger", "joy\n", "fear\x85"]
    (folder / "emotion.json").write_text(json.dumps(values))
    return folder


def infer(folder, *arguments, stdin=""):
    result = run_script("infer.py", "--model", str(folder), "--backend", "numpy", *arguments, stdin=stdin)
    assert not RAW.search(result.stdout + result.stderr)
    return result


def test_table_shows_control_characters_and_has_one_line_for_a_text_and_each_label(folder):
    plain = infer(folder, "--threshold", "0.001", "--text", "sad").stdout.split("\n")
    assert len(plain) >= 1 + len(LABELS)
    result = infer(folder, "--threshold", "0.001", "--text", FORGED, "--text", ESCAPES)
    lines = result.stdout.split("\n")
    assert len(lines) == 2 * len(plain) - 1 and result.stderr == f"model: {escape_controls(str(folder))} (numpy)\n"
    assert lines[0].startswith(show(escape_controls(FORGED))[:60]) and escape_controls(ESCAPES) in lines
    names = {line[4:19].rstrip() for line in lines if "(from " in line and "%" in line and not line.startswith("sad")}
    assert names == {r"\x1b[2Janger", r"joy\n", r"fear\x85"}


def test_a_label_below_its_threshold_is_not_marked_as_one_that_reaches_it(folder):
    result = infer(folder, "--threshold", "0.999", "--empty-set", "top1", "--text", "sad")
    marked = [line for line in result.stdout.splitlines() if line[:4] in (f"  {OFF} ", f"  {ON} ")]
    assert len(marked) == 1 and marked[0].startswith(f"  {OFF} ") and marked[0].endswith("(likeliest, below its threshold of 100%)")
    assert f"  {ON} " in infer(folder, "--threshold", "0.001", "--empty-set", "top1", "--text", "sad").stdout
    for threshold, is_below in (("0.999", True), ("0.001", False)):
        record = json.loads(infer(folder, "--json", "--threshold", threshold, "--empty-set", "top1", "--text", "sad").stdout)
        assert record["is_below_threshold"] is is_below and len(record["labels"]) == (1 if is_below else len(LABELS))
    assert "is_below_threshold" not in json.loads(infer(folder, "--json", "--text", "sad").stdout)


def test_explanation_shows_control_characters(folder):
    result = infer(folder, "--explain", "--threshold", "0.001", "--text", ESCAPES)
    assert result.returncode == 0
    words = [re.sub(r"\[[+-]\d+\.\d\]", "", line) for line in result.stdout.splitlines() if "love" in line]
    assert len(words) == 1 + len(LABELS) and all(line.endswith(escape_controls(ESCAPES)) for line in words)


def test_json_parses_to_the_same_text_and_labels(folder):
    lines = [ESCAPES, FORGED.replace("\n", "\r"), "plain 🙃 你好"]
    result = infer(folder, "--json", "--explain", "--threshold", "0.001", stdin="\n".join(lines))
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["text"] for record in records] == lines
    assert ENCODING != "utf-8" or "plain 🙃 你好" in result.stdout  # otherwise JSON escapes
    assert set(records[0]["probabilities"]) == {"\x1b[2Janger", "joy\n", "fear\x85"}


def test_a_text_that_is_not_utf8_is_one_line(folder):
    result = infer(folder, "--text", "caf\udce9")
    assert (result.returncode, result.stderr) == (2, "error: text 'caf\\udce9': not valid UTF-8\n")
