"""Shards of a scoring job, joined, are the bytes of one process; shards that do not belong together are refused."""

import os
import re
import runpy
import shutil
import sys

import pytest

from emotion.config import DataConfig
from emotion.errors import ConfigError, StorageError
from emotion.evaluation.decision import default_rule
from emotion.files import write_json
from emotion.locks import hold_lock
from emotion.scoring.joining import join_shards
from emotion.scoring.shards import Shard
from tests.conftest import ROOT
from tests.scoring.oracle import Oracle, make_texts, score

FORMATS = {
    "csv": {},
    "csv.gz": {"probabilities": "all"},
    "jsonl": {"probabilities": "2"},
    "jsonl.zst": {},
    "parquet": {"probabilities": "all"},
    "xlsx": {},
}


def score_shards(path, output, count, numbers=None, **options):
    """Score shards in parts of 10 rows, and return the predictor of each."""
    oracles = [Oracle() for _ in numbers or range(count)]
    for number, oracle in zip(numbers or range(1, count + 1), oracles, strict=True):
        score(path, output=output, predictor=oracle, shard=Shard(number, count), **{"part_rows": 10, "command": "CMD"} | options)
    return oracles


def make_gold(path):
    """Write texts of which some cannot be scored, repeated ones and cells that a spreadsheet takes for formulas, with gold labels."""
    rows = [f"{'word ' * (i % 9)}{i % 40},{'joy|fear' if i % 3 else ''},=1+{i}\n" for i in range(95)]
    path.write_text("text,labels,=sum\n" + "".join(rows) + ',joy,x\n"open,,\n' + "too,many,cells,here\n")


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_joined_shards_are_the_bytes_of_one_process(tmp_path, count):
    """Of all formats; with 12 shards some have no parts."""
    make_gold(tmp_path / "a.csv")
    for ending, options in FORMATS.items():
        options = options | {"is_excel_safe": ending == "csv"}
        one, output = tmp_path / "one" / f"x.{ending}", tmp_path / "out" / f"x.{ending}"
        oracle = Oracle()
        expected = score(tmp_path / "a.csv", output=one, predictor=oracle, part_rows=10, **options)
        oracles = score_shards(tmp_path / "a.csv", output, count, **options)
        assert sorted(text for shard in oracles for text in shard.texts) == sorted(oracle.texts)
        assert not output.exists()
        tally, job = join_shards(output)
        assert tally == expected and tally.num_bad and tally.num_judged and job.output == output
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert len(names) == 3 * len(FORMATS) and {path.name for path in (tmp_path / "out").iterdir()} == names
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name


def test_shards_divide_the_parts_evenly_and_one_that_was_stopped_goes_on(tmp_path):
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / "one.csv", part_rows=10)
    (first,) = score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 3, [1])
    assert len(first.texts) == 35  # parts 0, 3, 6 and 9
    stopped = Oracle()
    stopped.predict = lambda texts: Oracle.predict(stopped, texts) if len(stopped.texts) < 20 else sys.exit()
    with pytest.raises(SystemExit):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv", predictor=stopped, part_rows=10, shard=Shard(2, 3))
    messages = []
    second, third, again = score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 3, [2, 3, 3], log=messages.append)
    assert (len(second.texts), len(third.texts), len(again.texts)) == (10, 30, 0)
    assert f"{tmp_path}/out.csv: shard 2/3: resuming; 2 parts of 10 rows are done" in messages
    join_shards(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def join_and_fail(output, error=ConfigError):
    with pytest.raises(error) as caught:
        join_shards(output)
    return str(caught.value).replace(str(output.parent), ".")


def test_missing_shards_are_named_with_the_command_that_makes_the_first(tmp_path):
    make_texts(tmp_path / "a.csv")
    output = tmp_path / "out.csv"
    none = "has no shards, the folders out.csv.shard-I-of-N beside it; score them with --shard I/N"
    assert join_and_fail(output) == f"--join ./out.csv: {none}"
    assert join_and_fail(tmp_path / "gone" / "out.csv").endswith(none)
    score_shards(tmp_path / "a.csv", output, 4, [1, 4])
    assert join_and_fail(output) == "--join ./out.csv: shards 2/4, 3/4 are missing or not complete; score the first with `CMD --shard 2/4`"
    score_shards(tmp_path / "a.csv", output, 4, [2, 3])
    shutil.rmtree(tmp_path / "out.csv.shard-1-of-4")
    expected = "--join ./out.csv: shard 1/4 is missing or not complete; score it with `CMD --shard 1/4`"
    assert join_and_fail(output) == expected
    with pytest.raises(SystemExit):
        score(tmp_path / "a.csv", output=output, predictor=type("Stopped", (Oracle,), {"predict": sys.exit})(), shard=Shard(1, 4))
    assert join_and_fail(output) == expected and (tmp_path / "out.csv.shard-1-of-4").is_dir()
    with hold_lock(tmp_path / "out.csv.shard-1-of-4" / "process-0.lock", "", ""):
        running = join_and_fail(output, StorageError)
    assert re.fullmatch(rf"./out.csv: shard 1/4 is being scored by process {os.getpid()} on .* since .*; wait for it", running)
    score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 3, [2])
    divisions = "3 (out.csv.shard-*-of-3) and 4 (out.csv.shard-*-of-4)"
    assert join_and_fail(output) == f"--join ./out.csv: has shards of divisions by {divisions}; remove the folders of all but one"
    assert not output.exists()


def change_rule(monkeypatch):
    monkeypatch.setattr(Oracle, "rule", default_rule(3).with_overrides(0.4, None))


CHANGES = {
    "rule": (change_rule, {}, "model and rule: "),
    "backend": (lambda patch: patch.setattr(Oracle, "backend_name", "oracle on cuda"), {}, "backend: oracle -> oracle on cuda"),
    "version": (lambda patch: patch.setattr("emotion.__version__", "0.9"), {}, "version: "),
    "probabilities": (None, {"probabilities": "all"}, "probabilities: none -> all"),
    "part rows": (None, {"part_rows": 20}, "rows of a part: 10 -> 20"),
    "Excel-safe": (None, {"is_excel_safe": True}, "Excel-safe: False -> True"),
    "columns": (None, {"columns": DataConfig(text_column="text")}, "columns: "),
}


@pytest.mark.parametrize("change", CHANGES)
def test_shards_of_different_jobs_are_refused(tmp_path, monkeypatch, change):
    make_texts(tmp_path / "a.csv")
    score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 3, [1, 3])
    patch, options, difference = CHANGES[change]
    if patch is not None:
        patch(monkeypatch)
    score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 3, [2], **options)
    message = join_and_fail(tmp_path / "out.csv")
    assert message.startswith("--join ./out.csv: shards 1/3 and 2/3 are of different jobs (") and difference in message
    assert "\n" not in message and message.endswith("score it again with the model, inputs, options and version of the others")
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", *(f"out.csv.shard-{number}-of-3" for number in (1, 2, 3))}


def test_the_same_rows_are_joined_wherever_they_are_and_others_never(tmp_path):
    """Shards of machines without a shared disk: name and time of the input differ, a changed cell counts."""
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / "one.csv", part_rows=10)
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "a.csv", tmp_path / "copy" / "b.csv")
    score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 2, [1])
    score_shards(tmp_path / "copy" / "b.csv", tmp_path / "out.csv", 2, [2])
    join_shards(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    changed = tmp_path / "copy" / "b.csv"
    changed.write_text(changed.read_text().replace(",77\n", ",78\n"))  # not the text, and in a part of shard 2
    score_shards(tmp_path / "a.csv", tmp_path / "other.csv", 2, [1])
    score_shards(changed, tmp_path / "other.csv", 2, [2])
    assert "(rows of the inputs: " in join_and_fail(tmp_path / "other.csv")


def test_a_damaged_part_is_named_with_the_command_that_scores_it_again(tmp_path):
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / "one.csv", part_rows=10)
    score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 3)
    part = tmp_path / "out.csv.shard-2-of-3" / "part-000004"
    part.write_bytes(part.read_bytes()[:-5])
    message = join_and_fail(tmp_path / "out.csv", StorageError)
    assert message == "./out.csv.shard-2-of-3/part-000004: is missing or damaged; score it again with `CMD --shard 2/3`"
    (again,) = score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 3, [2])
    assert len(again.texts) == 10
    (tmp_path / "out.csv.shard-3-of-3" / "shard.json").write_text("[")
    assert join_and_fail(tmp_path / "out.csv").startswith("./out.csv.shard-3-of-3/shard.json: is missing or damaged; remove ")
    score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 3, [3])
    join_shards(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_an_output_that_exists_is_kept_until_the_join_replaces_it(tmp_path):
    make_texts(tmp_path / "a.csv", 5)
    output, metrics = tmp_path / "out.csv", tmp_path / "out.csv.metrics.json"
    output.write_text("earlier")
    metrics.write_text("earlier")
    with pytest.raises(ConfigError, match="exists already; choose another name, or give --overwrite"):
        score_shards(tmp_path / "a.csv", output, 2)
    score_shards(tmp_path / "a.csv", output, 2, is_overwriting=True)
    assert join_and_fail(output) == "--output ./out.csv: exists already; choose another name, or give --overwrite"
    assert output.read_text() == metrics.read_text() == "earlier"
    join_shards(output, is_overwriting=True)
    assert output.read_text().startswith("text,id,predicted_labels\n") and not metrics.exists()


def test_a_join_that_was_killed_is_completed_by_the_next(tmp_path, monkeypatch):
    make_texts(tmp_path / "a.csv", 25)
    score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 2)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        join_shards(tmp_path / "out.csv")
    content = (tmp_path / "out.csv").read_bytes()
    assert len(list(tmp_path.glob("*.shard-*"))) == 2
    shutil.rmtree(tmp_path / "out.csv.shard-2-of-2")  # the first one goes last
    assert join_shards(tmp_path / "out.csv") is None
    assert (tmp_path / "out.csv").read_bytes() == content and not list(tmp_path.glob("*.shard-*"))


def test_one_process_at_a_time_scores_a_shard_and_joins(tmp_path):
    make_texts(tmp_path / "a.csv", 25)
    score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 2)
    holder = rf"by process {os.getpid()} on .* since .*; "
    with hold_lock(tmp_path / "out.csv.shard-2-of-2" / "process-0.lock", "", ""):
        score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 2, [1])
        with pytest.raises(StorageError, match=rf"out\.csv: shard 2/2: is being scored {holder}wait for it, or choose another --output"):
            score_shards(tmp_path / "a.csv", tmp_path / "out.csv", 2, [2])
    with (
        hold_lock(tmp_path / "out.csv.shard-1-of-2" / "join.lock", "", ""),
        pytest.raises(StorageError, match=rf"out\.csv: is being joined {holder}wait for it"),
    ):
        join_shards(tmp_path / "out.csv")


def run_evaluate(monkeypatch, *words):
    """Call evaluate.py in this process, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "evaluate.py"), run_name="__main__")
    return stopped.value.code


def test_the_script_prints_the_next_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emotion.inference.loading.load_predictor", lambda *_, **__: Oracle())
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "model" / "emotion.json", {})
    make_gold(tmp_path / "a b.csv")
    words = ["--model", tmp_path / "model", "--input", tmp_path / "a b.csv", "--part-rows", "90", "--output", tmp_path / "out.csv"]
    assert run_evaluate(monkeypatch, *words, "--shard", "1/3") == 0
    shown = capsys.readouterr().err
    gold = f"; the join writes those of all rows to {tmp_path}/out.csv.metrics.json\n"
    assert gold in shown and f"{tmp_path}/out.csv: shard 1/3: 90 rows in " in shown and "rows/s); every row was scored\n" in shown
    assert shown.endswith(f"when all 3 shards are complete: `python evaluate.py --join {tmp_path}/out.csv`\n")
    assert run_evaluate(monkeypatch, "--join", tmp_path / "out.csv") == 2
    command = f"python evaluate.py --model {tmp_path}/model --input '{tmp_path}/a b.csv' --part-rows 90 --output {tmp_path}/out.csv"
    assert f"score the first with `{command} --shard 2/3`" in " ".join(capsys.readouterr().err.split())
    assert run_evaluate(monkeypatch, *words, "--shard=2/3") == 0 and run_evaluate(monkeypatch, *words, "--shard", "3/3") == 0
    shown = capsys.readouterr().err
    assert f"rows/s); 3 rows could not be scored, listed in {tmp_path}/out.csv.quarantine.tsv by the join\n" in shown
    assert "the input has fewer parts of 90 rows than shards; a smaller --part-rows makes more" in shown
    assert run_evaluate(monkeypatch, "--join", tmp_path / "out.csv") == 0
    shown = capsys.readouterr().err
    assert f"{tmp_path}/out.csv: 98 rows in " in shown and f"rows could not be scored, listed in {tmp_path}/out.csv.quar" in shown
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a b.csv", "model", "out.csv", "out.csv.metrics.json", "out.csv.quarantine.tsv")
    }


def test_the_script_replaces_an_output_by_its_shards(tmp_path, monkeypatch):
    """If the shards are whole; the earlier output is kept if they are not."""
    make_texts(tmp_path / "a.csv", 25)
    output, part = tmp_path / "out.csv", tmp_path / "out.csv.shard-1-of-2" / "part-000000"
    output.write_text("earlier")
    score_shards(tmp_path / "a.csv", output, 2, is_overwriting=True)
    content = part.read_bytes()
    part.write_bytes(content[:-1])
    assert run_evaluate(monkeypatch, "--join", output, "--overwrite") == 2 and output.read_text() == "earlier"
    part.write_bytes(content)
    assert run_evaluate(monkeypatch, "--join", output, "--overwrite") == 0
    assert output.read_text().startswith("text,id,predicted_labels\n") and not list(tmp_path.glob("*.shard-*"))


REFUSED = {
    "--input a.csv --output out.csv --shard 9/8": "--shard 9/8: must be I/N with I from 1 to N, such as 2/8",
    "--input a.csv --output out.csv --shard 0/8": "--shard 0/8: must be I/N with I from 1 to N, such as 2/8",
    "--input a.csv --output out.csv --shard 2": "--shard 2: must be I/N with I from 1 to N, such as 2/8",
    "--input a.csv --output folder --shard 2/8": "--shard: is for scored files; give --output FILE.csv, .jsonl, .parquet or .xlsx",
    "--input - --output out.csv --shard 2/8": "--shard: stdin and stdout cannot be divided; give files",
    "--input a.csv --output - --shard 2/8": "--shard: stdin and stdout cannot be divided; give files",
    "--join out.csv --model m": "--join out.csv: takes --overwrite only, got --model; the shards have the rest",
    "--join out.csv data.text_column=x": "--join out.csv: takes --overwrite only, got data.text_column=x; the shards have the rest",
    "--join folder": "--join folder: must be the --output of the shards, such as scored.csv",
    "--join -": "--join -: must be the --output of the shards, such as scored.csv",
}


@pytest.mark.parametrize("words", REFUSED)
def test_options_that_do_not_fit_are_one_line(monkeypatch, capsys, words):
    assert run_evaluate(monkeypatch, *words.split()) == 2
    assert capsys.readouterr().err == f"error: {REFUSED[words]}\n"


def test_a_launcher_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_evaluate(monkeypatch, "--model", "m", "--input", str(ROOT / "README.md"), "--output", "out.csv", "--shard", "1/2") == 2
    assert capsys.readouterr().err.endswith("error: --shard 1/2: 2 processes; start one for each shard, without a launcher\n")
