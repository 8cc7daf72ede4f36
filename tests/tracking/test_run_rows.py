"""A run holds to its rows: through evaluate.py, export.py and scored files, when its data has changed since."""

import json
import shutil

import pandas as pd
import pytest

from emotion.config import DataConfig
from emotion.data.reading.finding import anchor_sources
from emotion.data.reading.streams import expand_patterns
from emotion.errors import DataError
from emotion.labels import LabelSet
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.run_rows import describe_known, is_test, read_rows, read_rows_to_score
from tests.conftest import make_once, run_script

WORDS = {"joy": ("happy", "glad", "great"), "anger": ("mad", "cross", "awful")}


def list_rows(start, stop):
    """Return rows (text, label) that TF-IDF can learn."""
    names = list(WORDS)
    return [(f"so {WORDS[names[n % 2]][n % 3]} about number {n} on the list", names[n % 2]) for n in range(start, stop)]


def write(path, rows):
    path.write_text("\n".join(["text,label", *(f"{text},{label}" for text, label in rows)]) + "\n")
    return path


@pytest.fixture(scope="module")
def trained():
    """A folder with a file of 200 rows, data.csv, and the run `tf` of TF-IDF on it."""

    def make(folder):
        write(folder / "data.csv", list_rows(0, 200))
        settings = [f"data.source={folder}/data.csv", f"run.folder={folder}", "run.name=tf", "tracking.backend=none"]
        result = run_script("train.py", "--config", "configs/tfidf.yaml", *settings)
        assert result.returncode == 0, result.stderr
        (folder / "log.txt").write_text(result.stdout)

    return make_once("rows-of-a-run", make)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run whose data is at `tmp_path / "data.csv"`."""
    copy = shutil.copytree(trained / "tf", tmp_path / "tf")
    shutil.copy(trained / "data.csv", tmp_path)
    config = (copy / "config.yaml").read_text().replace(str(trained), str(tmp_path))
    (copy / "config.yaml").write_text(config)
    return copy


def evaluate(run, *arguments, script="evaluate.py"):
    result = run_script(script, "--model", str(run), *arguments)
    assert result.returncode == 0, result.stderr
    return result


def read_metrics(run, split):
    return json.loads((run / "report" / split / "metrics.json").read_text())


def test_training_writes_the_rows_and_ends_with_the_verdict(trained):
    rows = read_rows(RunFolder(trained / "tf"))
    assert {split: len(keys.ids) for split, keys in rows.splits.items()} == {"train": 160, "validation": 20, "test": 20}
    verdict = read_metrics(trained / "tf", "validation")["verdict"]
    assert (trained / "log.txt").read_text().splitlines()[-1] == f"verdict: {verdict['verdict']}: {verdict['reason']}"
    assert verdict["verdict"] == "useful"


def test_a_grown_file_has_the_same_test_rows_and_its_new_ones_are_offered(run):
    before = evaluate(run, "--full").stdout
    predictions = (run / "predictions" / "test.parquet").read_bytes()
    frame = pd.read_parquet(run / "predictions" / "test.parquet")
    data = run.parent / "data.csv"
    write(data, list_rows(-40, 200))  # the new rows come first: every line has another number
    result = evaluate(run, "--full")
    message = f"new since training and in no split: 40 rows of {data}; to score them, put them in a file of their own and give it with"
    assert f"data: {message} --input FILE --output FOLDER\n" in result.stderr
    assert f"note: {message} --input FILE --output FOLDER\n" in result.stdout
    assert (run / "predictions" / "test.parquet").read_bytes() == predictions and len(frame) == 20
    scores = [line for line in before.splitlines() if "_f1" in line or "verdict" in line]
    assert len(scores) > 4 and [line for line in result.stdout.splitlines() if "_f1" in line or "verdict" in line] == scores
    metrics = read_metrics(run, "test")
    assert metrics["notes"] == [f"{message} --input FILE --output FOLDER"] and metrics["known_texts"] == {"train": 0, "validation": 0}
    table = evaluate(run, "--verify", script="export.py").stdout
    assert "as trained, before saving" in table and "On 20 rows" in table


def test_rows_that_are_gone_are_said_and_the_others_are_verified(run):
    ids = pd.read_parquet(run / "predictions" / "validation.parquet").id.tolist()
    lines = (run.parent / "data.csv").read_text().splitlines()
    del lines[int(ids[0]) - 1]  # an id is the number of a line
    (run.parent / "data.csv").write_text("\n".join(lines) + "\n")
    result = evaluate(run, "--verify", script="export.py")
    gone = "1 of 20 validation rows are no longer in"
    assert f"data: {gone} {run.parent}/data.csv, or their text has changed: the scores are of the 19 that are left\n" in result.stderr
    assert "as trained, before saving        | 19 |" in result.stdout


def test_a_run_of_an_earlier_version_is_read_as_before_and_changed_data_is_said(run):
    (run / "rows.parquet").unlink()
    assert "its validation rows are not" not in evaluate(run).stderr
    write(run.parent / "data.csv", list_rows(0, 240))
    result = evaluate(run)
    changed = f"{run.parent}/data.csv: its validation rows are not those of the training, so the data has changed; test rows, which are"
    assert f"data: {changed} drawn anew, may be rows that the model was trained on: restore the data, or train again\n" in result.stderr
    assert len(pd.read_parquet(run / "predictions" / "test.parquet")) == 24
    result = run_script("export.py", "--model", str(run), "--verify")
    assert f"as trained: not compared, because the probabilities in {run}/predictions/validation.parquet" in result.stderr


def test_relative_data_is_in_the_folder_where_training_was_started(run, tmp_path, monkeypatch):
    """Not in the working directory of now, unless the data was named now or is no longer there."""
    folder, label_set = RunFolder(run), LabelSet(("anger", "joy"))
    here = tmp_path / "here [1]"
    here.mkdir()
    shutil.copy(tmp_path / "data.csv", here)
    config = folder.config.read_text().replace(f"{tmp_path}/data.csv", "data.csv")
    assert "source: data.csv" in config
    folder.config.write_text(config)
    environment = folder.path / "environment.json"
    environment.write_text(json.dumps(json.loads(environment.read_text()) | {"working_directory": str(tmp_path)}))
    monkeypatch.chdir(here)

    def read_path(*overrides):
        return read_rows_to_score(folder, "test", None, overrides, label_set).messages[0].split(": ")[0]

    assert read_path() == str(tmp_path / "data.csv")
    assert read_path("data.source=data.csv") == "data.csv"
    (tmp_path / "data.csv").unlink()
    assert read_path() == "data.csv"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_path()
    environment.write_text("[]")  # of an earlier version, or damaged
    monkeypatch.chdir(here)
    assert read_path() == "data.csv"


def test_each_setting_of_data_is_found_again(tmp_path, monkeypatch):
    """Folders, patterns, several files and other spellings; what is not there, or on the Hub, stays as it is."""
    folder = tmp_path / "a, b [1]"
    (folder / "data").mkdir(parents=True)
    for name in ("train-1.csv", "train-2.csv", "test.csv"):
        (folder / "data" / name).touch()
    monkeypatch.chdir(tmp_path)
    names = {"source": "data", "train": "data/train-1.csv, data/train-2.csv", "validation": "./data/../data/test.csv", "test": "gone.csv"}
    anchored = anchor_sources(DataConfig(**names), folder)
    both = f"{folder}/data/train-1.csv,{folder}/data/train-2.csv"
    assert anchored == DataConfig(f"{folder}/data", train=both, validation=f"{folder}/data/../data/test.csv", test="gone.csv")
    assert anchor_sources(DataConfig("data/train-*.csv"), folder, ["data.source"]).source == "data/train-*.csv"
    pattern = anchor_sources(DataConfig("data/train-*.csv"), folder).source
    assert expand_patterns([pattern]) == (folder / "data" / "train-1.csv", folder / "data" / "train-2.csv")
    for name in ("sample", "someone/data"):
        assert anchor_sources(DataConfig(name), folder).source == name


def test_damaged_rows_are_one_line(run):
    content = bytearray((run / "rows.parquet").read_bytes())
    content[len(content) // 3] ^= 255
    (run / "rows.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"rows\.parquet: is damaged \(.*\); restore it; or remove it, and the splits are") as caught:
        read_rows(RunFolder(run))
    assert "\n" not in str(caught.value)


def test_training_rows_are_not_a_test(run, tmp_path):
    in_training = set(read_rows(RunFolder(run)).splits["train"].ids)
    rows = [row for number, row in enumerate(list_rows(0, 200), start=2) if str(number) in in_training]
    seen = write(tmp_path / "seen.csv", rows)
    sentence = "160 of 160 texts were in this model's training data: this is not a test"
    result = evaluate(run, "--input", str(seen), "--output", str(tmp_path / "out"))
    assert result.stdout.splitlines()[-2:] == [f"note: {sentence}", "verdict: none: the rows are not a test"]
    metrics = read_metrics(tmp_path / "out", "seen")
    assert metrics["notes"] == [sentence] and metrics["known_texts"] == {"train": 160, "validation": 0} and metrics["verdict"] is None
    result = evaluate(run, "--input", str(seen), "--output", str(tmp_path / "scored.csv"))  # scored against its gold labels
    assert f"{sentence}\n" in result.stderr
    assert json.loads((tmp_path / "scored.csv.metrics.json").read_text())["known_texts"] == {"train": 160}
    new = write(tmp_path / "new.csv", list_rows(300, 340))
    result = evaluate(run, "--input", str(new), "--output", str(tmp_path / "new"))
    assert "training data" not in result.stdout and result.stdout.splitlines()[-1].startswith("verdict: useful: macro-F1 ")


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        ({"train": 0, "validation": 0}, None),
        ({}, None),
        ({"train": 1_000}, "1,000 of 1,000 texts were in this model's training data: this is not a test"),
        ({"train": 51}, "51 of 1,000 texts were in this model's training data: this is not a test"),
        ({"train": 50}, "50 of 1,000 texts were in this model's training data; their scores are not those of new texts"),
        (
            {"train": 0, "validation": 7},
            "7 of 1,000 texts were in this model's validation data, on which its thresholds were fitted",
        ),
    ],
    ids=str,
)
def test_what_is_said_of_known_texts(known, sentence):
    assert describe_known(known, 1_000) == sentence
    assert is_test(known, 1_000) == ("not a test" not in (sentence or ""))


def test_a_new_decision_rule_has_a_new_verdict_and_the_notes_stay(run):
    evaluate(run)
    path = run / "report" / "test" / "metrics.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps(before | {"notes": ["a note"], "verdict": before["verdict"] | {"verdict": "weak"}}))
    evaluate(run, "--refit", "decision.maximize=micro_f1", script="export.py")
    after = json.loads(path.read_text())
    assert after["notes"] == ["a note"] and after["known_texts"] == before["known_texts"]
    assert after["verdict"]["verdict"] == "useful" and after["decision"] != before["decision"]
