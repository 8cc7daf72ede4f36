"""Parts are reused for the same job only, and only if they are what was written."""

import hashlib
import json
import os
import shutil

import pytest

from emotion.config import DataConfig
from emotion.errors import ConfigError, DataError
from emotion.scoring.manifest import ScoringJob, describe_job, write_manifest
from emotion.scoring.parts import Tally, read_marker, write_marker
from tests.scoring.oracle import Oracle, make_texts, read_output, score, start_and_fail


def test_parts_that_a_killed_process_left_beside_its_complete_output_are_removed(tmp_path, monkeypatch):
    make_texts(tmp_path / "a.csv", 5)
    parts = tmp_path / ".out.csv.parts"
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        score(tmp_path / "a.csv", output=tmp_path / "out.csv")
    assert parts.is_dir()
    with pytest.raises(ConfigError, match="exists already"):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv")
    assert not parts.exists()
    start_and_fail(tmp_path / "a.csv", tmp_path / "other.csv")
    (tmp_path / "out.csv").rename(tmp_path / "other.csv")  # not the output of these parts
    with pytest.raises(ConfigError, match="exists already"):
        score(tmp_path / "a.csv", output=tmp_path / "other.csv")
    assert (tmp_path / ".other.csv.parts").is_dir()


def test_parts_of_another_job_and_an_existing_output_are_refused(tmp_path):
    make_texts(tmp_path / "a.csv")
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.csv")
    with pytest.raises(ConfigError, match=r"\(probabilities: none -> all\)"):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv", probabilities="all", part_rows=10)
    make_texts(tmp_path / "a.csv", 94)
    with pytest.raises(ConfigError, match=r"\(inputs: .* --overwrite to start again"):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv", part_rows=10)
    shutil.rmtree(tmp_path / ".out.csv.parts")
    score(tmp_path / "a.csv", output=tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="exists already"):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv")


def test_an_output_is_replaced_if_asked_for_and_never_where_it_is_an_input(tmp_path):
    make_texts(tmp_path / "a.csv", 5)
    output, beside = tmp_path / "out.csv", tmp_path / "out.csv.metrics.json"
    output.write_text("earlier")
    beside.write_text("earlier")
    score(tmp_path / "a.csv", output=output, is_overwriting=True)
    assert len(read_output(output)) == 6 and not beside.exists()
    with pytest.raises(ConfigError, match=r"out\.csv: is one of the inputs; choose another name"):
        score(output, output=output, is_overwriting=True)
    assert len(read_output(output)) == 6


def test_an_output_stays_until_the_new_one_is_complete(tmp_path):
    """Whatever the mistake or the interruption; the same command goes on, and another one replaces its parts."""
    make_texts(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("other,columns\n1,2\n")
    score(tmp_path / "a.csv", output=tmp_path / "one.csv", part_rows=10)
    earlier = [tmp_path / f"out.csv{ending}" for ending in ("", ".metrics.json", ".quarantine.tsv")]
    for path in earlier:
        path.write_text("earlier")
    options = {"output": tmp_path / "out.csv", "part_rows": 10, "is_overwriting": True}
    with pytest.raises(DataError, match="all files must have the same"):
        score(tmp_path / "a.csv", tmp_path / "b.csv", **options)
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.csv", num_parts=3, is_overwriting=True)
    with pytest.raises(ConfigError, match="99"):
        score(tmp_path / "a.csv", probabilities="99", **options)
    assert [path.read_text() for path in earlier] == ["earlier"] * 3
    oracle = Oracle()
    score(tmp_path / "a.csv", predictor=oracle, **options)
    assert len(oracle.texts) == 95 - 30 and (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a.csv", "b.csv", "one.csv", "one.csv.quarantine.tsv", "out.csv", "out.csv.quarantine.tsv")
    }


@pytest.mark.parametrize("is_damaged", [False, True])
def test_parts_of_another_job_are_replaced_if_asked_for(is_damaged, tmp_path):
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / "one.csv", part_rows=20)
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.csv", num_parts=3)
    if is_damaged:
        (tmp_path / ".out.csv.parts" / "manifest.json").write_text("{")
    oracle = Oracle()
    score(tmp_path / "a.csv", output=tmp_path / "out.csv", predictor=oracle, part_rows=20, is_overwriting=True)
    assert len(oracle.texts) == 95 and (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert not (tmp_path / ".out.csv.parts").exists()


def test_a_folder_of_an_earlier_version_is_resumed(tmp_path):
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / "whole.csv", part_rows=10)
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.csv", num_parts=3)
    parts = tmp_path / ".out.csv.parts"
    (parts / "manifest.json").rename(parts / "ledger.json")
    with pytest.raises(ConfigError, match="probabilities: none -> all"):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv", probabilities="all", part_rows=10)
    manifest = json.loads((parts / "manifest.json").read_text())
    described_less = {
        key: value
        for key, value in manifest.items()
        if key not in ("versions of the inputs", "weights", "tokenizer and config", "Excel-safe")
    }
    described_less["columns"] = {key: value for key, value in manifest["columns"].items() if key != "max_line_length"}
    (parts / "ledger.json").write_text(json.dumps(described_less))
    (parts / "manifest.json").unlink()
    job = ScoringJob((tmp_path / "a.csv",), tmp_path / "out.csv", DataConfig(), part_rows=10)
    write_manifest(job, manifest)
    assert json.loads((parts / "manifest.json").read_text()) == manifest  # other processes wait for it
    oracle = Oracle()
    score(tmp_path / "a.csv", output=tmp_path / "out.csv", predictor=oracle, part_rows=10)
    assert len(oracle.texts) == 95 - 30 and (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


DAMAGES = {
    "cut": lambda part: part.write_bytes(part.read_bytes()[:-9]),
    "flipped byte": lambda part: part.write_bytes(bytes([part.read_bytes()[0] ^ 1]) + part.read_bytes()[1:]),
    "empty": lambda part: part.write_bytes(b""),
    "lost": lambda part: part.unlink(),
    "bad rows changed": lambda part: part.with_suffix(".bad").write_bytes(b"x"),
    "empty marker": lambda part: part.with_suffix(".json").write_text(""),
    "marker is a list": lambda part: part.with_suffix(".json").write_text("[]"),
    "marker of an older version": lambda part: part.with_suffix(".json").write_text('{"num_rows": 10}'),
    "counts changed": lambda part: part.with_suffix(".json").write_text(part.with_suffix(".json").read_text().replace("10", "11")),
    "marker nested deep": lambda part: part.with_suffix(".json").write_text("[" * 100_000),
    "marker without checksums": lambda part: part.with_suffix(".json").write_text('{"tally": {}, "checksums": {}}'),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_part_is_scored_again(damage, tmp_path):
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / "whole.csv", part_rows=10)
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.csv", num_parts=3)
    damage(tmp_path / ".out.csv.parts" / "part-000001")
    oracle, messages = Oracle(), []
    tally = score(tmp_path / "a.csv", output=tmp_path / "out.csv", predictor=oracle, log=messages.append, part_rows=10)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes() and tally.num_rows == 96
    assert len(oracle.texts) == 95 - 20 and sum("part-000001: is damaged" in message for message in messages) == 1


@pytest.mark.parametrize("content", ["", "[]", "{", "null", "[" * 100_000, None], ids=repr)
def test_parts_without_a_readable_manifest_are_refused(content, tmp_path):
    make_texts(tmp_path / "a.csv")
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.csv", num_parts=3)
    manifest = tmp_path / ".out.csv.parts" / "manifest.json"
    manifest.unlink() if content is None else manifest.write_text(content)
    with pytest.raises(ConfigError, match=r"manifest.json: is missing or damaged, so its parts cannot be reused; remove .* to start again"):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv", part_rows=10)


def test_an_input_written_again_within_a_second_is_another_job(tmp_path):
    """At the same size: the time in seconds and the size are those of before."""
    make_texts(tmp_path / "a.csv")
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.csv")
    status, content = (tmp_path / "a.csv").stat(), (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(content[:-3] + content[-2:-1] + content[-3:-2] + content[-1:])
    os.utime(tmp_path / "a.csv", ns=(status.st_atime_ns, status.st_mtime_ns + 1_000))
    with pytest.raises(ConfigError, match=r"contains parts of another job \(versions of the inputs: "):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv", part_rows=10)


def test_other_weights_under_the_same_sidecar_are_another_job(tmp_path):
    make_texts(tmp_path / "a.csv")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "emotion.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(200_000))
    job = ScoringJob((tmp_path / "a.csv",), tmp_path / "out.csv", DataConfig(), model=str(folder))
    before = describe_job(Oracle(), Oracle.rule, job)
    assert describe_job(Oracle(), Oracle.rule, job) == before and before["weights"]
    (folder / "model.safetensors").write_bytes(b"\1" * 200_000)
    changed = {key for key, value in describe_job(Oracle(), Oracle.rule, job).items() if value != before[key]}
    assert changed == {"weights"}
    (folder / "tokenizer.json").write_text("[]")
    (folder / "README.md").write_text("written again by export.py --verify")
    changed = {key for key, value in describe_job(Oracle(), Oracle.rule, job).items() if value != before[key]}
    assert changed == {"weights", "tokenizer and config"}


def test_a_part_of_an_earlier_version_with_fewer_counts_is_used(tmp_path):
    """Its checksum is of the counts that the file has."""
    part = tmp_path / "part-000000"
    part.write_text("a\n")
    part.with_suffix(".bad").write_text("")
    write_marker(part, Tally(3, 1))
    marker = json.loads(part.with_suffix(".json").read_text())
    for name in ("num_split", "num_segments"):
        del marker["tally"][name]
    marker["checksum of the tally"] = hashlib.sha256(json.dumps(marker["tally"]).encode()).hexdigest()
    part.with_suffix(".json").write_text(json.dumps(marker))
    assert read_marker(part) == Tally(3, 1)
    marker["tally"]["num_rows"] = 4
    part.with_suffix(".json").write_text(json.dumps(marker))
    assert read_marker(part) is None
