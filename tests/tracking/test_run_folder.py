"""A run folder with damaged files says so; what it writes has no secret, and the permissions of the umask."""

import json
import os
import shlex

import numpy as np
import pandas as pd
import pytest

from emotion.config import load_config
from emotion.data.reading import read_dataset
from emotion.errors import ConfigError, DataError
from emotion.labels import LabelSet
from emotion.tracking.finished_runs import read_finished_run
from emotion.tracking.run_folder import RunFolder

LABELS = LabelSet(("a", "b"))
DAMAGED = ["", "{", "[]", "null", "1", "{}", "[" * 100_000, "\0" * 20]


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.states.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_where_efficiency_is_damaged_the_states_tell_whether_the_run_is_finished(content, run):
    run.efficiency.write_text(content)
    (run.states / "step-000000004").mkdir()
    assert not run.is_finished
    (run.states / "step-000000004").rmdir()
    assert run.is_finished
    config = load_config(None, [f"run.folder={run.path.parent}", "run.name=run"])
    with pytest.raises(ConfigError, match="is finished"):
        RunFolder.choose(config, "quickstart", is_resumed=True)


def test_a_resumed_run_without_a_name_is_the_newest_that_got_its_name_from_the_time(tmp_path):
    for name in (
        "minilm-20260101-120000",
        "minilm-20260102-120000",
        "minilm-notes",
        "minilm-20260103-120000-old",
        "minilm-xl-20270101-120000",
    ):
        (tmp_path / name).mkdir()
    config = load_config(None, [f"run.folder={tmp_path}"])
    assert RunFolder.choose(config, "minilm", is_resumed=True).path.name == "minilm-20260102-120000"
    new = RunFolder.choose(config, "mpnet", is_resumed=True)
    assert not new.path.exists()
    new.path.mkdir()
    assert RunFolder.choose(config, "mpnet", is_resumed=True) == new  # what it is named by is what is looked for


def test_efficiency_tells_whether_the_run_is_finished(run):
    assert not run.is_finished
    for step, is_finished in ((None, True), (7, False)):
        run.efficiency.write_text(json.dumps({"interrupted_after_step": step}))
        assert run.is_finished == is_finished


def test_damaged_predictions_are_not_used(run, capsys):
    """No other value is read: a flipped byte is found by the checksum of its page."""
    rng = np.random.default_rng(0)
    ids, probabilities = [str(number) for number in range(500)], rng.random((500, 2))
    run.write_predictions("test", ids, probabilities > 0.5, probabilities, LABELS)
    content = run.predictions("test").read_bytes()
    expected = run.read_probabilities("test", ids, LABELS)
    assert expected.shape == (500, 2) and capsys.readouterr().err == ""
    pd.read_parquet(run.predictions("test")).to_parquet(run.predictions("test"))  # as older versions wrote it, without checksums
    assert np.array_equal(run.read_predictions("test").probabilities, expected)
    positions = rng.integers(0, len(content), size=60)
    num_found = 0
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        run.predictions("test").write_bytes(damaged)
        try:
            assert np.array_equal(run.read_predictions("test").probabilities, expected)
        except DataError as error:
            num_found += 1
            assert str(error).startswith(f"{run.predictions('test')}: is damaged (") and "\n" not in str(error)
            assert run.read_probabilities("test", ids, LABELS) is None and "is damaged" in capsys.readouterr().err
    assert num_found > 30


@pytest.mark.parametrize("content", ["", "[]", "1", "[" * 100_000], ids=["empty", "list", "number", "nested"])
@pytest.mark.parametrize("name", ["efficiency.json", "report/test/speed.json", "report/test/metrics.json"])
def test_a_damaged_finished_run_is_one_line(name, content, run):
    run.write_config(load_config(None))
    run.write_predictions("test", ["1", "2"], np.eye(2, dtype=bool), np.eye(2), LABELS)
    run.report("test").mkdir(parents=True)
    (run.report("test") / "metrics.json").write_text('{"decision": {"thresholds": [0.5, 0.5], "temperature": 1.0, "empty_set": "none"}}')
    assert read_finished_run(str(run.path)).efficiency == {}
    (run.path / name).write_text(content)
    with pytest.raises(DataError, match=r"run: cannot be read \(.*\); evaluate its test split again") as caught:
        read_finished_run(str(run.path))
    assert "\n" not in str(caught.value)


def test_the_command_is_recorded_without_its_secrets(run, monkeypatch):
    monkeypatch.setenv("STORE_PASSWORD", "correct horse")
    command = ["train.py", "--config", "https://someone:hunter22@host/c.yaml", "--note=correct horse", "model.revision=" + "a" * 40]
    run.begin(load_config(None), command)
    expected = ["train.py", "--config", "https://***@host/c.yaml", "--note=***", "model.revision=" + "a" * 40]
    assert json.loads((run.path / "environment.json").read_text())["command"] == expected
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert len(files) == 2 and not any(b"hunter22" in path.read_bytes() for path in files)


def test_a_resumed_run_has_the_settings_and_the_folder_of_the_last_command(run, tmp_path, monkeypatch):
    run.begin(load_config(None), ["train.py"])
    before = json.loads((run.path / "environment.json").read_text())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    run.resume(load_config(None, ["data.source=data", "run.quote_texts=false"]))
    assert json.loads((run.path / "environment.json").read_text()) == before | {"working_directory": str(tmp_path)}
    config = run.read_config()
    assert (config.data.source, config.run.quote_texts, config.run.name) == ("data", False, run.path.name)
    monkeypatch.chdir("/")
    assert run.resolve_data(config).data.source == str(tmp_path / "data")
    (run.path / "environment.json").write_text("[]")  # damaged: what is lost is not made up
    run.resume(config)
    assert (run.path / "environment.json").read_text() == "[]"


def test_a_command_that_is_not_utf8_is_recorded(run):
    run.begin(load_config(None), ["train.py", "--config", "caf\udce9.yaml"])
    assert json.loads((run.path / "environment.json").read_text())["command"][-1] == "caf\udce9.yaml"


def test_all_files_of_a_run_have_the_permissions_of_the_umask(tiny_run):
    mask = os.umask(0)
    os.umask(mask)
    paths = list(tiny_run.rglob("*"))
    assert {"model.safetensors", "emotion.json", "metrics.jsonl", "config.yaml"} <= {path.name for path in paths}
    for path in paths:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_a_command_in_a_message_can_be_typed_whatever_the_folder_is_called(tmp_path):
    folder = RunFolder(tmp_path / "my run; $x$")
    folder.path.mkdir()
    folder.config.touch()
    with pytest.raises(DataError) as caught:
        read_finished_run(str(folder.path))
    command = str(caught.value).split("`")[1]
    assert shlex.split(command) == ["python", "evaluate.py", "--model", str(folder.path), "--split", "test"]


def test_labels_that_were_not_annotated_are_stored_as_such(run):
    labels, probabilities = np.array([[True, False], [False, True]]), np.array([[0.9, 0.1], [0.2, 0.6]], np.float32)
    is_judged = np.array([[True, True], [False, True]])
    run.write_predictions("test", ["1", "2"], labels, probabilities, LABELS, is_judged)
    stored = run.read_predictions("test")
    assert stored.ids == ["1", "2"] and stored.label_set == LABELS
    for found, expected in ((stored.labels, labels), (stored.probabilities, probabilities), (stored.is_judged, is_judged)):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    run.write_predictions("test", ["1", "2"], labels, probabilities, LABELS)
    assert run.read_predictions("test").is_judged is None


@pytest.mark.parametrize("name", ["id", "gold:joy"])
def test_a_label_with_the_name_of_another_column_is_refused(name, run, tmp_path):
    """Its probabilities would be stored in place of the ids, or of the gold labels of joy."""
    message = f"labels: '{name}' cannot be the name of a label: files of predictions have a column id, and gold:NAME for the gold labels"
    with pytest.raises(DataError, match=message):
        run.write_predictions("test", ["7"], np.array([[True, False]]), np.array([[0.5, 0.25]]), LabelSet(("joy", name)))
    assert not run.predictions("test").exists()
    rows = "".join(f"text number {row},{'joy' if row % 2 else name}\n" for row in range(40))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}")
    with pytest.raises(DataError, match=message):
        read_dataset(load_config(None, [f"data.source={tmp_path / 'rows.csv'}"]).data)
