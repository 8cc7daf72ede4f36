"""A file that is dropped on the page is scored as `evaluate.py` scores it; it can be stopped, resumed and dropped again."""

import csv
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from scipy.stats import binomtest

from emotion.app import scored_files
from emotion.app.handlers import NO_FILE, Handlers
from emotion.app.html_files import format_result
from emotion.app.results import SHOWN_ROWS, Progress, ScoredFile
from emotion.app.scored_files import FileScorer, ScoringOptions, prepare_job
from emotion.app.uploads import KEPT_SECONDS, UploadStore, describe_upload
from emotion.errors import ConfigError, DataError
from emotion.evaluation.uncertainty import compute_wilson_interval
from tests.app.conftest import HOSTILE_TEXTS
from tests.conftest import SAMPLE, run_script


def write_rows(path, num_rows=500):
    """Write a csv of ordinary and hostile texts, with empty texts and a broken row."""
    with (SAMPLE / "train.csv").open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    rows = [(f"r{number}", HOSTILE_TEXTS[number % 8] if number % 9 == 0 else texts[number]) for number in range(num_rows - 2)]
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("id", "comment"), *rows[:100], ("empty", "  "), *rows[100:]])
        stream.write("broken,row,with,more\n")
    return path


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows") / "rows & more.csv")


@pytest.fixture
def store(tmp_path):
    return UploadStore(tmp_path / "uploads")


def score(model, upload, options, scorer=None):
    states = list((scorer or FileScorer()).score(model, upload, options))
    assert isinstance(states[-1], ScoredFile) and all(isinstance(state, Progress) for state in states[:-1])
    return states[-1]


def test_scored_file_and_quarantine_are_those_of_evaluate(model, rows, store, tmp_path):
    upload = describe_upload(store.add(rows), model.predictor.label_set)
    assert (upload.text_column, upload.num_rows, upload.num_unreadable) == ("comment", 500, 1)
    result = score(model, upload, ScoringOptions(probabilities="3"))
    expected = tmp_path / "expected.csv"
    shutil.copyfile(rows, tmp_path / rows.name)
    command = ["--input", str(tmp_path / rows.name), "--output", str(expected), "--probabilities", "3"]
    evaluated = run_script("evaluate.py", "--model", model.location, *command)
    assert evaluated.returncode == 0, evaluated.stderr
    assert result.output.read_bytes() == expected.read_bytes() and result.output.name == "rows & more-emotions.csv"
    assert (result.num_rows, result.num_bad) == (500, 2) and result.quarantine is not None
    with result.quarantine.open(newline="") as ours, (tmp_path / "expected.csv.quarantine.tsv").open(newline="") as theirs:
        found, wanted = ([row[1:] for row in csv.reader(stream, delimiter="\t")] for stream in (ours, theirs))
    assert found == wanted and len(found) == 3
    with expected.open(newline="", encoding="utf-8") as stream:
        labels = [name for row in csv.DictReader(stream) for name in row["predicted_labels"].split("|") if name]
    assert {frequency.name: frequency.count for frequency in result.frequencies if frequency.count} == {
        name: labels.count(name) for name in set(labels)
    }
    assert all(frequency.fraction == frequency.count / 498 for frequency in result.frequencies)
    assert result.rows[0][0] == HOSTILE_TEXTS[0] and len(result.rows) == SHOWN_ROWS


def test_gold_labels_are_scored(model, store):
    result = score(model, describe_upload(store.add(SAMPLE / "test.csv"), model.predictor.label_set), ScoringOptions())
    assert result.scores is not None and result.scores["num_rows"] == 400 and 0 < result.scores["micro_f1"] < 1


@pytest.mark.parametrize("output_format", scored_files.OUTPUT_FORMATS)
def test_every_format_has_the_same_labels(model, store, output_format):
    upload = describe_upload(store.add(SAMPLE / "validation.csv"), model.predictor.label_set)
    as_csv, other = (score(model, upload, ScoringOptions(output_format=name)) for name in (".csv", output_format))
    assert other.output.suffix == output_format and other.output.stat().st_size > 1_000
    assert (
        other.frequencies == as_csv.frequencies
        and other.rows == as_csv.rows
        and sum(frequency.count for frequency in other.frequencies) > 100
    )


@pytest.mark.parametrize("output_format", scored_files.OUTPUT_FORMATS)
def test_rows_without_text_are_counted_and_shown_as_not_scored(model, store, tmp_path, output_format):
    """An Excel file of one column does not hold its empty rows, so the rows that were scored are not those that it has."""
    path = tmp_path / "empty.csv"
    path.write_text('"text"\n"I am so happy"\n""\n"Thank you so much"\n""\n""\n')
    upload = describe_upload(store.add(path), model.predictor.label_set)
    result = score(model, upload, ScoringOptions(output_format=output_format))
    assert (result.num_rows, result.num_bad) == (5, 3)
    assert {frequency.fraction for frequency in result.frequencies} <= {0, 0.5, 1}
    assert all(frequency.fraction == frequency.count / 2 for frequency in result.frequencies)
    assert all((labels is None) == (not text) for text, labels in result.rows) and len(result.rows) >= 2
    assert format_result(result).count("not scored") == len([text for text, _ in result.rows if not text])


def test_a_stopped_job_goes_on_from_its_parts(model, store, tmp_path, monkeypatch):
    monkeypatch.setattr(scored_files, "PART_ROWS", 64)
    upload = describe_upload(store.add(write_rows(tmp_path / "many.csv", 400)), model.predictor.label_set)
    options, scorer, stop = ScoringOptions(sensitivity=0.5), FileScorer(), threading.Event()
    whole = score(model, upload, ScoringOptions(sensitivity=0.5, probabilities="none"))
    content = whole.output.read_bytes()
    whole.output.unlink()
    _, _, job = prepare_job(model, upload, options)
    predict, calls = type(model.load_file_predictor()).predict_checked, []

    def predict_and_stop(self, texts, description=None):
        calls.append(len(texts))
        if len(calls) == 2:
            stop.set()
        return predict(self, texts, description)

    monkeypatch.setattr(type(model.load_file_predictor()), "predict_checked", predict_and_stop)
    states = list(scorer.score(model, upload, options, stop))
    assert not any(isinstance(state, ScoredFile) for state in states) and not job.output.exists()
    assert isinstance(states[-1], Progress) and states[-1].num_done == 128 and len(calls) == 2
    result = score(model, upload, options, scorer)
    assert result.output.read_bytes() == content and result.progress.num_resumed == 128 and len(calls) == 7


def test_a_job_whose_reader_has_left_is_stopped_and_goes_on_for_the_next(model, store, tmp_path, monkeypatch):
    """The page was closed while a file was scored: its next part is not begun, and who scores the file again is not told to wait."""
    monkeypatch.setattr(scored_files, "PART_ROWS", 64)
    upload = describe_upload(store.add(write_rows(tmp_path / "left.csv", 400)), model.predictor.label_set)
    predict, sizes, has_left = type(model.load_file_predictor()).predict_checked, [], threading.Event()

    def predict_once_left(self, texts, description=None):
        sizes.append(len(texts))
        assert has_left.wait(60)
        time.sleep(1.5)  # longer than the lock of the parts is waited for
        return predict(self, texts, description)

    with monkeypatch.context() as patch:
        patch.setattr(type(model.load_file_predictor()), "predict_checked", predict_once_left)
        scorer = FileScorer()
        states: Any = scorer.score(model, upload, ScoringOptions())
        while not sizes:
            next(states)
        states.close()
        has_left.set()
        patch.setattr(type(model.load_file_predictor()), "predict_checked", predict)
        result = score(model, upload, ScoringOptions(), scorer)
    assert len(sizes) == 1 and result.num_rows == 400


def test_a_file_that_comes_again_is_not_scored_again(model, rows, store, tmp_path, monkeypatch):
    again = shutil.copyfile(rows, tmp_path / rows.name)
    first, second = store.add(rows), store.add(again)
    assert first == second and first.read_bytes() == rows.read_bytes()
    result = score(model, describe_upload(first, model.predictor.label_set), ScoringOptions())
    monkeypatch.setattr(scored_files, "score_files", None)
    repeated = score(model, describe_upload(second, model.predictor.label_set), ScoringOptions())
    assert repeated.output == result.output and repeated.frequencies == result.frequencies and repeated.num_bad == result.num_bad
    others = [ScoringOptions(sensitivity=1), ScoringOptions(probabilities="all"), ScoringOptions("id"), ScoringOptions(is_excel_safe=True)]
    outputs = {prepare_job(model, describe_upload(first, model.predictor.label_set), options)[2].output for options in others}
    assert len(outputs | {result.output}) == 5


def test_files_that_nobody_uses_are_removed(rows, tmp_path):
    store, other = UploadStore(tmp_path / "uploads"), write_rows(tmp_path / "other.csv", 10)
    old, new = store.add(rows), store.add(other)
    for path in (old, old.parent):
        os.utime(path, (0, 0))
    assert UploadStore(store.folder, float("inf")).add(other) == new and old.exists()
    assert store.add(other) == new and not old.parent.exists() and new.exists()


def test_a_file_that_is_in_use_is_not_removed(rows, tmp_path):
    store, other = UploadStore(tmp_path / "uploads"), write_rows(tmp_path / "other.csv", 10)
    used = store.add(rows)
    for path in (used, used.parent):
        os.utime(path, (time.time() - KEPT_SECONDS + 60,) * 2)
    assert store.add(rows) == used and time.time() - used.parent.stat().st_mtime < 60
    store.add(other)
    assert used.exists()


def test_a_file_that_several_drop_at_once_stays_whole(tmp_path):
    """Its copies are links: a copy that was written onto one would have emptied all of them."""
    content = b"text\nThank you\n"
    for number in range(50):
        path, store, start = tmp_path / f"{number}.csv", UploadStore(tmp_path / f"uploads-{number}"), threading.Barrier(4)
        path.write_bytes(content)

        def drop(path=path, store=store, start=start):
            start.wait()
            return store.add(path)

        with ThreadPoolExecutor(4) as pool:
            added = {job.result() for job in [pool.submit(drop) for _ in range(4)]}
        assert len(added) == 1 and path.read_bytes() == added.pop().read_bytes() == content
        assert [file.name for file in store.folder.rglob("*") if file.is_file()] == [path.name]


def test_files_that_scoring_removes_meanwhile_are_no_error(rows, tmp_path, monkeypatch):
    store = UploadStore(tmp_path / "uploads")
    path = store.add(rows)
    first, second, stat = path.with_name("part-1"), path.with_name("part-2"), os.stat
    for part in (first, second):
        part.write_text("")

    def stat_and_remove(name, *arguments, **options):
        if str(name) == str(first):
            first.unlink(missing_ok=True)
        found = stat(name, *arguments, **options)
        if str(name) == str(second):
            second.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(os, "stat", stat_and_remove)
    assert store.add(rows) == path and not first.exists() and not second.exists()


def test_a_file_that_is_gone_is_one_line(model, tmp_path):
    shown, _, _ = Handlers({"tiny": model}, UploadStore(tmp_path / "uploads")).show_upload(str(tmp_path / "gone.csv"), None)
    assert "gone.csv: is no longer here: files are removed after a day; drop it again" in shown and str(tmp_path) not in shown


def test_an_error_in_the_background_arrives(model, rows, store, monkeypatch):
    def fail(*_):
        raise DataError("nothing works")

    monkeypatch.setattr(scored_files, "score_files", fail)
    upload = describe_upload(store.add(rows), model.predictor.label_set)
    with pytest.raises(DataError, match="nothing works"):
        list(FileScorer().score(model, upload, ScoringOptions()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ScoringOptions("body"), "rows & more.csv: has no column 'body'; its columns are id, comment"),
        (ScoringOptions(output_format=".exe"), r"output format '\.exe': must be one of \.csv"),
        (ScoringOptions(probabilities="7"), "probabilities='7': must be one of none, 3, all"),
        (ScoringOptions(sensitivity=9), "sensitivity=9: must be a number from -3 to 3"),
    ],
)
def test_wrong_options_are_one_line(model, rows, store, options, message):
    with pytest.raises((ConfigError, DataError), match=f"^{message}"):
        list(FileScorer().score(model, describe_upload(store.add(rows), model.predictor.label_set), options))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("picture.png", b"\x89PNG\r\n\x1a\n", "picture.png: unknown format '.png'"),
        ("empty.csv", b"", "empty.csv"),
        ("header.csv", b"id,text\n", "header.csv: has no rows"),
        ("broken.csv", b"text\na,b\n", "broken.csv:2: "),
        ("numbers.jsonl", b'{"a": 1, "b": 2}\n', "1 row; choose the column of the texts"),
    ],
)
def test_a_file_without_texts_is_one_friendly_line(model, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    handlers = Handlers({"tiny": model}, UploadStore(tmp_path / "uploads"))
    shown, columns, guess = handlers.show_upload(str(tmp_path / name), None)
    assert message in shown.replace("&#x27;", "'") and str(tmp_path) not in shown
    assert guess is None and columns == (["a", "b"] if name == "numbers.jsonl" else [])
    assert [shown for shown, files in handlers.score_upload(None, ScoringOptions(), None)][-1].count(NO_FILE) == 1


def test_a_file_that_is_too_large_is_one_line(model, tmp_path, monkeypatch):
    monkeypatch.setattr("emotion.app.uploads.MAX_UPLOAD_MEGABYTES", 1)
    with (tmp_path / "big.csv").open("wb") as stream:
        stream.truncate(3 * 2**20)
    shown, _, _ = Handlers({"tiny": model}, UploadStore(tmp_path / "uploads")).show_upload(str(tmp_path / "big.csv"), "tiny")
    assert "big.csv: has 3 MiB, at most 1 MiB can be dropped here" in shown


@pytest.mark.parametrize(("count", "total"), [(0, 10), (10, 10), (3, 17), (500, 100_000)])
def test_interval_is_scipys(count, total):
    expected = binomtest(count, total).proportion_ci(0.95, "wilson")
    assert compute_wilson_interval(count, total) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert compute_wilson_interval(0, 0) == (0.0, 1.0)


def test_notes_name_the_file_without_the_folder_of_the_server(model, store, tmp_path):
    path = tmp_path / "semicolons.csv"
    path.write_text("id;text\n" + "".join(f"{number};thank you, {number}\n" for number in range(6)))
    *_, result = Handlers({model.name: model}, store).run_job(str(path), ScoringOptions(), None)
    assert isinstance(result, ScoredFile)
    assert result.notes == ["semicolons.csv: cells are separated by ';', as detected; data.separator sets another"]
