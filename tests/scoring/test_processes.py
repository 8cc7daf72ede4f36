"""Several processes that score one output: the bytes of one, and an end for those that are late, dead or second."""

import os
import re
import shutil
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from emotion.config import DataConfig
from emotion.data.reading.rows import Row
from emotion.errors import ConfigError, StorageError
from emotion.locks import hold_lock
from emotion.scoring import processes
from emotion.scoring.manifest import ScoringJob
from emotion.scoring.scoring import score_files, score_parts
from tests.scoring.oracle import Oracle, make_texts, score, start_and_fail


def score_by_several(path, output, num_processes, predictors, **options):
    """Score by several processes at once, which are threads here."""
    threads = [
        threading.Thread(
            target=score,
            args=[path],
            kwargs={"output": output, "predictor": predictors[rank], "process": rank, "num_processes": num_processes, **options},
            daemon=True,
        )
        for rank in range(num_processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("is_overwriting", [False, True])
@pytest.mark.parametrize("num_processes", [2, 4])
def test_any_number_of_processes_gives_the_same_bytes(tmp_path, num_processes, is_overwriting):
    make_texts(tmp_path / "a.csv")
    if is_overwriting:
        (tmp_path / "out.csv").write_text("earlier")
    score(tmp_path / "a.csv", output=tmp_path / "one.csv", part_rows=10)
    everyone = threading.Barrier(num_processes)

    class SteadyOracle(Oracle):
        def predict(self, texts):
            if not self.texts:
                everyone.wait(60)  # so that no process is late, and its parts are not scored by the first one
            return super().predict(texts)

    oracles = [SteadyOracle() for _ in range(num_processes)]
    score_by_several(tmp_path / "a.csv", tmp_path / "out.csv", num_processes, oracles, part_rows=10, is_overwriting=is_overwriting)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert not (tmp_path / ".out.csv.parts").exists()
    assert sum(len(oracle.texts) for oracle in oracles) == 95 and all(oracle.texts for oracle in oracles)


@pytest.mark.parametrize("num_parts", [1, 2, 7])
@pytest.mark.parametrize("num_processes", [2, 3, 5])
def test_fewer_parts_than_processes_and_late_ones_end(tmp_path, num_processes, num_parts):
    (tmp_path / "a.csv").write_text("text\n" + "".join(f"word {i}\n" for i in range(10 * num_parts)))
    score(tmp_path / "a.csv", output=tmp_path / "one.csv", part_rows=10)
    score_by_several(tmp_path / "a.csv", tmp_path / "out.csv", num_processes, [Oracle() for _ in range(num_processes)], part_rows=10)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "one.csv", "out.csv"}


def test_the_first_process_scores_the_parts_of_processes_that_do_not_run(tmp_path):
    make_texts(tmp_path / "a.csv")
    score(tmp_path / "a.csv", output=tmp_path / "one.csv", part_rows=10)
    oracle, messages = Oracle(), []
    score(tmp_path / "a.csv", output=tmp_path / "out.csv", predictor=oracle, part_rows=10, num_processes=3, log=messages.append)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "one.csv").read_bytes() and len(oracle.texts) == 95
    assert messages[-1].endswith("out.csv: 6 parts of other processes, which have ended or are late, are scored here")


def test_a_process_that_runs_is_waited_for_by_name_and_not_for_ever(tmp_path, monkeypatch):
    make_texts(tmp_path / "a.csv")
    monkeypatch.setattr(processes, "REPORT_SECONDS", 0.2)
    monkeypatch.setattr(processes, "MAX_SILENT_SECONDS", 1)
    is_released, messages = threading.Event(), []

    class StuckOracle(Oracle):
        def predict(self, texts):
            is_released.wait(60)
            return super().predict(texts)

    options = {"output": tmp_path / "out.csv", "part_rows": 10, "num_processes": 2}
    stuck = threading.Thread(
        target=score, args=[tmp_path / "a.csv"], kwargs=options | {"predictor": StuckOracle(), "process": 1}, daemon=True
    )
    stuck.start()
    while not (tmp_path / ".out.csv.parts" / "process-1.lock").exists():
        time.sleep(0.01)
    oracle = Oracle()
    score(tmp_path / "a.csv", predictor=oracle, log=messages.append, **options)
    assert len(oracle.texts) == 95 and (tmp_path / "out.csv").is_file()
    sign = rf"out.csv: waiting for the parts of process 1 \(process {os.getpid()} on .* since .*\) of 2 \(from 0\)"
    assert any(re.search(sign, message) for message in messages)
    is_released.set()
    stuck.join(60)
    assert not stuck.is_alive() and not (tmp_path / ".out.csv.parts").exists()


def test_a_process_without_a_first_one_ends_with_one_line(tmp_path, monkeypatch):
    make_texts(tmp_path / "a.csv", 5)
    monkeypatch.setattr(processes, "MAX_START_SECONDS", 0.1)
    with pytest.raises(ConfigError, match=r"process 1 of 2 \(from 0\) has waited 0.1 s for process 0; start it too"):
        score(tmp_path / "a.csv", output=tmp_path / "out.csv", process=1, num_processes=2)


def test_a_second_scorer_of_one_output_is_told_of_the_first(tmp_path):
    make_texts(tmp_path / "a.csv", 5)
    parts = tmp_path / ".out.csv.parts"
    parts.mkdir()
    with hold_lock(parts / "process-0.lock", "", ""), pytest.raises(StorageError) as caught:
        score(tmp_path / "a.csv", output=tmp_path / "out.csv")
    assert re.fullmatch(
        rf"{tmp_path}/out.csv: is being scored by process {os.getpid()} on .* since .*; wait for it, or choose another --output",
        str(caught.value),
    )
    score(tmp_path / "a.csv", output=tmp_path / "out.csv")  # the lock file that is left does not block the next start


def test_a_second_process_waits_for_the_manifest_of_its_job(tmp_path):
    make_texts(tmp_path / "a.csv")
    start_and_fail(tmp_path / "a.csv", tmp_path / "out.csv")
    second, parts = Oracle(), tmp_path / ".out.csv.parts"
    options = {"output": tmp_path / "out.csv", "part_rows": 20, "num_processes": 2}
    thread = threading.Thread(target=score, args=[tmp_path / "a.csv"], kwargs=options | {"predictor": second, "process": 1}, daemon=True)
    thread.start()
    thread.join(1)
    assert thread.is_alive() and not second.texts and not list(parts.glob("part-*"))
    (parts / "manifest.json").unlink()
    score(tmp_path / "a.csv", **options)
    thread.join(60)
    assert not thread.is_alive() and (tmp_path / "out.csv").is_file()


def test_a_process_that_starts_after_the_end_has_nothing_to_do(tmp_path):
    make_texts(tmp_path / "a.csv", 5)
    options = {"output": tmp_path / "out.csv", "num_processes": 2}
    score(tmp_path / "a.csv", **options)
    thread = threading.Thread(target=score, args=[tmp_path / "a.csv"], kwargs=options | {"process": 1}, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and {path.name for path in tmp_path.iterdir()} == {"a.csv", "out.csv", "out.csv.quarantine.tsv"}


@pytest.mark.parametrize("is_there", [False, True])
def test_a_process_that_is_late_knows_the_new_output_from_the_old(tmp_path, monkeypatch, is_there):
    make_texts(tmp_path / "a.csv", 5)
    output = tmp_path / "out.csv"
    if is_there:
        output.write_text("earlier")
    job = ScoringJob((tmp_path / "a.csv",), output, DataConfig(), process=1, num_processes=2, is_overwriting=True)
    assert not job.is_finished()
    score(tmp_path / "a.csv", output=output, num_processes=2, is_overwriting=True)
    late = Oracle()
    assert replace(job, model=None).is_finished()
    assert score_files(late, late.rule, job) is None and not late.texts and not job.folder.exists()
    monkeypatch.setattr(processes, "MAX_START_SECONDS", 0.1)
    with pytest.raises(ConfigError, match="has waited"):  # the next job is not this one
        score(tmp_path / "a.csv", output=output, process=1, num_processes=2, is_overwriting=True)


def test_parts_beside_their_complete_output_are_scored_again_by_all(tmp_path, monkeypatch):
    """A kill came between the name of the output and the removal of the parts; the second process starts first."""
    make_texts(tmp_path / "a.csv")
    options = {"output": tmp_path / "out.csv", "part_rows": 20, "num_processes": 2, "is_overwriting": True}
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        score(tmp_path / "a.csv", **options)
    oracles = [Oracle(), Oracle()]
    second = threading.Thread(
        target=score, args=[tmp_path / "a.csv"], kwargs=options | {"predictor": oracles[1], "process": 1}, daemon=True
    )
    second.start()
    second.join(0.5)
    assert second.is_alive() and not oracles[1].texts
    oracles[0].predict = lambda texts: (time.sleep(0.5), Oracle.predict(oracles[0], texts))[1]
    score(tmp_path / "a.csv", predictor=oracles[0], **options)
    second.join(60)
    assert [len(oracle.texts) for oracle in oracles] == [20 + 20 + 15, 40] and not second.is_alive()
    assert not (tmp_path / ".out.csv.parts").exists()


def test_a_process_that_falls_behind_does_not_write_removed_parts_again(tmp_path):
    job = ScoringJob((tmp_path / "a.csv",), tmp_path / "out.csv", DataConfig(), part_rows=1, process=1, num_processes=2)
    source = SimpleNamespace(entries=[Row("a.csv", line, ["text"]) for line in range(4)], measure=lambda: 0.0)

    def score_own_parts(write):
        return score_parts(SimpleNamespace(write=write, job=job), source, print, lambda number: number % 2 == 1)

    def write_while_the_first_ends(path, part):
        job.output.touch()
        (path / "x").touch()  # raises: the folder is gone

    job.folder.mkdir()
    assert len(score_own_parts(lambda path, part: path.with_suffix(".json").write_text("{}"))) == 4
    assert len(list(job.folder.iterdir())) == 2
    shutil.rmtree(job.folder)
    with pytest.raises(FileNotFoundError):
        score_own_parts(lambda path, part: (path / "x").touch())
    assert len(score_own_parts(write_while_the_first_ends)) == 2
    assert len(score_own_parts(None)) == 1 and not job.folder.exists()
