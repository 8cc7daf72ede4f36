"""Suites of behaviour checks: the bundled one is whole, csv and jsonl give the same cases, and each mistake is one line."""

import csv
import json
import re
from collections import Counter

import pytest

from emotion.errors import DataError
from emotion.evaluation.behaviour.suite import BUNDLED, COLUMNS, EXPECTATIONS, compute_fingerprint, read_suite
from tests.conftest import SAMPLE

CASE = {"capability": "negation", "text": "not happy", "expect": "lower", "labels": ["joy"], "compare_to": "happy"}
MEMBER = {"capability": "who", "expect": "same", "group": "g"}


def write_json_suite(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_bundled_suite_has_what_its_card_says():
    cases = read_suite(BUNDLED)
    counts = Counter(case.capability.partition("_")[0] if case.term else case.capability for case in cases)
    card = (BUNDLED.parent / "README.md").read_text(encoding="utf-8")
    assert len(cases) >= 400 and f"{len(cases)} short English texts" in card
    rows = [line.split("|")[1:3] for line in card.splitlines() if line.startswith("| `")]
    assert {name.strip().strip("`").removesuffix("_*"): int(count) for name, count in rows} == counts
    assert all(case.reason for case in cases) and {case.expect for case in cases} == set(EXPECTATIONS) - {"all"}
    assert all(case.is_hard for case in cases if case.capability == "sarcasm")


def test_bundled_suite_asks_for_every_label_six_times_and_copies_no_row_of_the_bundled_corpus():
    cases = read_suite(BUNDLED)
    with (SAMPLE / "train.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = {name for row in rows for name in row["labels"].split("|")}
    first = Counter(case.labels[0] for case in cases if case.capability == "basic" and case.expect == "any")
    assert len(names) == 28 and first == dict.fromkeys(names, 6)
    assert not {case.text for case in cases} & {row["text"] for row in rows}


def test_identity_cases_of_a_group_differ_in_their_term_only():
    groups = {}
    for case in read_suite(BUNDLED):
        if case.term:
            frame, count = re.subn(rf"\b(an? )?{re.escape(case.term)}\b", "TERM", case.text, flags=re.IGNORECASE)
            assert count == 1, case.text
            groups.setdefault(case.group, set()).add(frame)
    assert len(groups) == 7 * 12 and all(len(frames) == 1 for frames in groups.values())


def test_csv_and_jsonl_give_the_same_cases(tmp_path):
    rows: list[dict] = [
        {**CASE, "id": "a", "reason": 'with "quotes", commas\nand lines', "hard": True},
        {"id": "b", "capability": "c", "text": "NA", "expect": "any", "labels": ["joy", "love"]},
        {**MEMBER, "id": "c", "text": "a man", "term": "man"},
        {**MEMBER, "id": "d", "text": "a woman\u2028", "term": "woman"},
    ]
    with (tmp_path / "own.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"labels": "|".join(row.get("labels", []))} for row in rows)
    cases = read_suite(tmp_path / "own.csv")
    assert cases == read_suite(write_json_suite(tmp_path / "own.jsonl", *rows))
    assert cases[0].is_hard and not cases[1].is_hard and cases[1].labels == ("joy", "love") and cases[2].labels == ()
    assert [case.cluster for case in cases] == ["happy", "NA", "group g", "group g"]


def test_fingerprint_changes_with_all_but_the_reason(tmp_path):
    def fingerprint(**values):
        return compute_fingerprint(read_suite(write_json_suite(tmp_path / "own.jsonl", CASE | values)))

    assert fingerprint() == fingerprint(reason="because")
    changes = [{"text": "never happy"}, {"labels": ["love"]}, {"expect": "higher"}, {"compare_to": "glad"}, {"hard": True}, {"id": "x"}]
    assert len({fingerprint(), *(fingerprint(**change) for change in changes)}) == 1 + len(changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "own.jsonl: has no case; docs/behaviour.md describes the format"),
        ("[1]", "own.jsonl, line 1: must be a JSON object, not [1]"),
        ("\n{", "own.jsonl, line 2: is not JSON (Expecting property name"),
        ("[" * 100_000, "own.jsonl, line 1: is not JSON (maximum recursion"),
        (CASE | {"expects": "any"}, "line 1: unknown key 'expects', did you mean expect?"),
        (CASE | {"zzz": 1}, f"line 1: unknown key 'zzz', use {', '.join(COLUMNS)}"),
        (CASE | {"text": " "}, "line 1: text is missing; every case has capability, text, expect"),
        (CASE | {"text": 5}, "line 1: text=5: must be text"),
        (CASE | {"text": "\ud800"}, r"line 1: text='\ud800': must be text"),
        (CASE | {"expect": "more"}, "line 1: expect='more': must be one of any, all, none, higher, lower, not_lower, same"),
        (CASE | {"labels": 3}, "line 1: labels=3: must be a list of names, or names between |"),
        (CASE | {"labels": [["joy"]]}, "line 1: labels=[['joy']]: must be a list of names, or names between |"),
        (CASE | {"labels": []}, "line 1: expect=lower: needs labels"),
        (CASE | {"hard": "perhaps"}, "line 1: hard='perhaps': must be true or false"),
        (CASE | {"hard": []}, "line 1: hard=[]: must be true or false"),
        (CASE | {"compare_to": ""}, "line 1: expect=lower: needs compare_to"),
        (CASE | {"compare_to": "not happy"}, "line 1: compare_to is the text itself; give another one"),
        (CASE | {"expect": "none"}, "line 1: expect=none: needs no compare_to"),
        (CASE | {"expect": "same", "group": "g"}, "line 1: expect=same: needs compare_to or group, one of them"),
        (CASE | {"group": "g"}, "line 1: group='g': is for expect=same, got expect=lower"),
        (CASE | {"term": "Sikh"}, "line 1: term='Sikh': needs a group, whose cases differ in their terms only"),
        (MEMBER | {"text": "a"}, "own.jsonl: group 'g' has one case; a group has two or more, which are compared"),
    ],
)
def test_a_mistake_is_one_line(content, message, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_suite(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([CASE | {"id": "a"}, CASE | {"id": "a"}], "own.jsonl: two cases have the id 'a'; rename one"),
        ([CASE | {"id": "2"}, CASE], "own.jsonl: two cases have the id '2'; rename one"),
        ([MEMBER | {"text": "a", "term": "x"}, MEMBER | {"text": "b", "term": "x"}], "give each of its cases a term of its own"),
        ([MEMBER | {"text": "a", "term": "x"}, MEMBER | {"text": "b"}], "give each of its cases a term of its own"),
        ([MEMBER | {"text": "a"}, MEMBER | {"text": "b", "capability": "d"}], "group 'g' has cases of 2 capabilities; it needs one"),
    ],
)
def test_cases_that_do_not_fit_together_are_one_line(rows, message, tmp_path):
    with pytest.raises(DataError) as caught:
        read_suite(write_json_suite(tmp_path / "own.jsonl", *rows))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.csv", b"text,expect\na,b,c\n", "own.csv, line 2: has 3 cells, the header has 2; quote cells that hold commas"),
        ("own.csv", b"text,text\na,b\n", "own.csv, line 1: two columns are called 'text'; rename one"),
        ("own.csv", b'text,expect\n"a\n', "own.csv, line 2: is not csv (unexpected end of data)"),
        ("own.csv", b"text\n" + b"a" * 200_000, "own.csv, line 2: is not csv (field larger than field limit"),
        ("own.csv", "text\ncaf\u00e9".encode("latin-1"), "own.csv: byte 8 is not UTF-8; save the suite as UTF-8"),
        ("own.xlsx", b"", "own.xlsx: a suite is a .csv or .jsonl file, got '.xlsx'; save it as one"),
        ("own", b"", "own: a suite is a .csv or .jsonl file, got 'no suffix'; save it as one"),
        ("gone.csv", None, "gone.csv: cannot be read (No such file or directory); give another suite"),
    ],
)
def test_a_file_that_is_no_suite_is_one_line(name, content, message, tmp_path):
    csv.field_size_limit(131_072)  # the limit of a new process, which reading of data raises
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_suite(tmp_path / name)
    assert message in str(caught.value) and "\n" not in str(caught.value)
