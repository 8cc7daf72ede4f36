"""The table of architectures: what it says of three of them, how it is written, and that the page has all of it."""

import json
import re

import pytest

from benchmarks.architectures import COLUMNS, END, START, WORKS, format_table, is_done, list_architectures, read_cells
from tests.conftest import ROOT, run_script

PAGE = ROOT / "docs" / "models.md"


@pytest.mark.slow
def test_three_architectures(tmp_path):
    """A decoder with Conv1D layers and without a pad token, and two whose answers change with padding."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    names = ["fnet", "gpt2", "xlnet"]
    words = ["--output", str(tmp_path / "out"), "--only", *names, "--page", str(page), "--skip-onnx"]
    result = run_script("-m", "benchmarks.architectures", *words, warm=True, TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    cells = {name: read_cells(tmp_path / "out" / f"{name}.json") for name in names}
    assert cells["gpt2"] == dict.fromkeys(("full", "LoRA", "NF4", "verify"), WORKS)
    for name in ("fnet", "xlnet"):
        assert cells[name].keys() == {"full", "LoRA", "NF4"} and str(tmp_path) not in str(cells[name])
        assert all(cell.startswith("base: ") and "with the padding behind it" in cell for cell in cells[name].values())
    assert page.read_text() == f"before\n{START}\n\n{format_table(cells)}\n{END}\nafter\n"


def test_finished_cells_are_kept_and_onnx_is_added_to_them():
    works, refused = {"full": WORKS, "verify": WORKS}, {"full": "no head"}
    assert [is_done(cells, "full", False) for cells in (None, works, works | {"ONNX": "line"}, refused)] == [False, False, True, True]
    assert is_done(works, "full", True) and is_done({"LoRA": WORKS}, "LoRA", False)


def test_a_cell_that_does_not_work_is_a_numbered_line(tmp_path):
    results = {"a": dict.fromkeys(COLUMNS, WORKS), "b": {"full": "no head", "LoRA": "no head", "NF4": "no `words`"}}
    rows = format_table(results).splitlines()
    assert rows[2:4] == ["| `a` | works | works | works | works | works |", "| `b` | line 1 | line 1 | line 2 |  |  |"]
    assert rows[5:] == ["1. `no head`", "2. `no 'words'`"]


def test_verify_works_if_each_variant_that_was_trained_does(tmp_path):
    variants = {
        "full": {"full": WORKS, "verify": WORKS, "ONNX": WORKS},
        "LoRA": {"LoRA": WORKS, "verify": "differs"},
        "NF4": {"NF4": "line"},
    }
    (tmp_path / "a.json").write_text(json.dumps(variants))
    assert read_cells(tmp_path / "a.json") == {"full": WORKS, "ONNX": WORKS, "LoRA": WORKS, "NF4": "line", "verify": "LoRA: differs"}


def test_the_page_has_a_table_of_what_transformers_has_heads_for():
    table = PAGE.read_text().partition(START)[2].partition(END)[0]
    rows = dict(re.findall(r"^\| `([\w-]+)` \|(.*)\|$", table, re.M))
    assert set(rows) <= set(list_architectures())
    working = [cells.split("|") for cells in rows.values() if cells.split("|")[0].strip() == WORKS]
    assert len(working) >= 30 and all(cell.strip() for cells in working for cell in cells)  # each was tried in each column
    lines = {int(number) for number in re.findall(r"line (\d+)", table)}
    assert lines == set(range(1, len(lines) + 1)) == {int(number) for number in re.findall(r"^(\d+)\. `", table, re.M)}
    assert "traceback" not in table and "crash" not in table
