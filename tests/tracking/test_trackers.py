"""Trackers mirror metrics.jsonl, every row once, also in a resumed run; they write no secret and never stop a run."""

import json
import os
import shlex
import struct
import typing
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from emotion.config import load_config
from emotion.errors import ConfigError
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.trackers import (
    WANDB_MODES,
    Tracking,
    _log_table,
    choose_backend,
    has_wandb_key,
    read_wandb_mode,
    start_tracking,
)
from tests.conftest import run_script
from tests.runs import kill_when, train_arguments

PLANTED = {"HF_TOKEN": "hf_" + "plantedTOKEN" * 3, "WANDB_API_KEY": "fedcba9876543210" * 2 + "12345678", "HOME": "/nonexistent"}


def read_records(path):
    """Yield the protobuf records of a .wandb file: a LevelDB log with blocks of 32 KiB, whose fragments have a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    content, position, message = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left_in_block = 32_768 - position % 32_768
        if left_in_block < 7:
            position += left_in_block
            continue
        _, length, fragment_type = struct.unpack("<IHB", content[position : position + 7])
        message += content[position + 7 : position + 7 + length]
        position += 7 + length
        if fragment_type in (1, 4):  # a whole record, or its last fragment
            record = Record()
            record.ParseFromString(message)
            message = b""
            yield record


def read_history(run):
    """Return the history {name: {step: value}} of the only offline run in a run folder, and all its records."""
    (path,) = (run / "wandb").glob("offline-run-*/*.wandb")
    records, history = list(read_records(path)), defaultdict(dict)
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            step = items.get("_step", record.history.step.num)
            for name, value in items.items():
                assert step not in history[name], f"{name} twice at step {step}"
                history[name][step] = value
    return history, records


@pytest.fixture(scope="module")
def resumed_run(tiny_bert, tmp_path_factory):
    """A run, tracked offline, that was killed after it saved a state and then resumed, with secrets in its environment."""
    folder = tmp_path_factory.mktemp("tracked")
    settings = ["training.per_device_batch_size=32", "training.epochs=2", "training.log_every=7", "training.save_every_steps=4"]
    settings += ["data.train_fraction=0.5", "tracking.backend=wandb"]
    command = train_arguments(tiny_bert, folder, "cut", *settings, "--resume")
    os.environ |= {"WANDB_MODE": "offline"}
    original = {name: os.environ.get(name) for name in PLANTED}
    os.environ |= PLANTED
    try:
        kill_when(command, lambda: (folder / "cut" / "state" / "step-00000020").exists() or len(list(folder.glob("cut/state/step-*"))) == 2)
    finally:
        os.environ["WANDB_MODE"] = "disabled"
        for name, value in original.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
    result = run_script(*command, WANDB_MODE="offline", **PLANTED)
    assert result.returncode == 0 and "resumed after step" in result.stdout, result.stderr
    return folder / "cut", result


@pytest.mark.slow
def test_history_equals_metrics_and_has_every_row_once(resumed_run):
    run, result = resumed_run
    history, records = read_history(run)
    rows = RunFolder(run).read_metrics()
    for row_type, name in (("train", "loss"), ("train", "grad_norm"), ("train", "padding_share"), ("validation", "macro_f1_tuned")):
        expected = {row["step"]: row[name] for row in rows if row["kind"] == row_type}
        assert len(expected) >= 2 and history[f"{row_type}/{name}"] == pytest.approx(expected)
    assert any("validation/labels" in name for name in history) and any("precision_recall" in name for name in history)
    assert result.stdout.count("tracking: wandb, offline") == 1
    (command,) = [line for line in result.stdout.splitlines() if line.startswith("  wandb sync ")]
    assert list(Path(shlex.split(command)[2]).glob("*.wandb"))
    config = {item.key for record in records for item in record.run.config.update}
    assert {"training", "environment"} <= config
    media = [path.suffix for path in (run / "wandb").rglob("media/**/*") if path.is_file()]
    assert media.count(".png") == 8 and ".json" in media


@pytest.mark.slow
def test_no_secret_is_written(resumed_run):
    run, result = resumed_run
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 25
    for secret in (PLANTED["HF_TOKEN"], PLANTED["WANDB_API_KEY"]):
        assert secret not in result.stdout + result.stderr
        for path in files:
            assert secret.encode() not in path.read_bytes(), path


def test_a_token_as_a_setting_is_refused_and_not_printed():
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"run.name={PLANTED['HF_TOKEN']}", "model.revision=" + "a" * 40])
    assert "run.name: looks like a token" in str(caught.value) and PLANTED["HF_TOKEN"] not in str(caught.value)


def test_a_failing_tracker_is_dropped_with_one_message(capsys):
    class Broken:
        name, calls = "wandb", 0

        def log(self, values, step):
            self.calls += 1
            raise OSError("no route to host")

    broken = Broken()
    tracking = Tracking(broken)
    for step in (1, 2):
        tracking.log({"kind": "train", "step": step, "loss": 1.0})
    assert broken.calls == 1 and capsys.readouterr().err.count("the run continues without it") == 1


def test_a_table_of_tensorboard_shows_names_as_they_are():
    written = {}
    tracker = SimpleNamespace(name="tensorboard", writer=SimpleNamespace(add_text=written.__setitem__))
    _log_table(tracker, "test/labels", [{"label": "a|b <i>", "f1": 0.5}])
    assert written == {"test/labels": "| label | f1 |\n| --- | --- |\n| a\\|b \\<i\\> | 0.5 |"}


@pytest.mark.slow
def test_an_unreachable_service_falls_back_to_offline(tiny_bert, tmp_path):
    settings = [f"model.backbone={tiny_bert}", "data.train_fraction=0.1", "training.epochs=1", f"run.folder={tmp_path}", "run.name=run"]
    environment = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "3", **PLANTED}
    result = run_script("train.py", "--config", "configs/quickstart.yaml", *settings, **environment)
    assert result.returncode == 0 and "wandb cannot be reached" in result.stderr, result.stderr
    history, _ = read_history(tmp_path / "run")
    assert history["validation/loss"]


@pytest.mark.slow
def test_tensorboard_has_the_same_history(tiny_bert, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = [f"model.backbone={tiny_bert}", "data.train_fraction=0.3", "training.epochs=2", "training.log_every=2"]
    settings += [f"run.folder={tmp_path}", "run.name=run", "tracking.backend=tensorboard"]
    result = run_script("train.py", "--config", "configs/quickstart.yaml", *settings)
    assert result.returncode == 0, result.stderr
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = RunFolder(tmp_path / "run").read_metrics()
    for row_type, name in (("train", "loss"), ("validation", "macro_average_precision")):
        expected = {row["step"]: row[name] for row in rows if row["kind"] == row_type}
        found = {event.step: event.value for event in events.Scalars(f"{row_type}/{name}")}
        assert len(expected) >= 2 and found == pytest.approx(expected, rel=1e-6)
    assert "validation/confusion_matrices" in events.Tags()["images"]


def test_choice_of_tracker(monkeypatch):
    config = load_config(None).tracking
    assert choose_backend(config) == ("none", "WANDB_MODE=disabled")
    monkeypatch.delenv("WANDB_MODE")
    assert choose_backend(config) == ("wandb", None)
    assert choose_backend(load_config(None, ["tracking.backend=tensorboard"]).tracking) == ("tensorboard", None)
    monkeypatch.setattr("emotion.tracking.trackers.find_spec", lambda name: None)
    assert choose_backend(config) == ("none", None)
    with pytest.raises(ConfigError, match="tensorboard: is not installed"):
        choose_backend(load_config(None, ["tracking.backend=tensorboard"]).tracking)


def test_key_of_wandb_login_is_found(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not has_wandb_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_wandb_key()


def test_a_damaged_description_of_the_environment_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = load_config(None, ["tracking.backend=wandb"])
    for content in ("[", "[]", "{}"):
        (tmp_path / "environment.json").write_text(content)
        assert start_tracking(config, RunFolder(tmp_path)).tracker is None
        assert capsys.readouterr().err.startswith("tracking: wandb cannot be started (")


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({}, (None, None)),
        ({"WANDB_DISABLED": "false", "WANDB_MODE": "dryrun"}, ("offline", "WANDB_MODE=dryrun")),
        ({"WANDB_MODE": "online"}, ("online", "WANDB_MODE=online")),
        ({"WANDB_DISABLED": "True", "WANDB_MODE": "online"}, ("disabled", "WANDB_DISABLED=True")),
    ],
    ids=str,
)
def test_variables_of_wandb_choose_its_mode(variables, mode, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert read_wandb_mode() == mode


def test_modes_are_those_of_wandb(monkeypatch):
    from wandb.sdk.wandb_settings import Settings

    assert set(typing.get_args(Settings.model_fields["mode"].annotation)) == set(WANDB_MODES)
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ConfigError, match=r"^WANDB_MODE=ofline: must be online, offline or disabled; "):
        choose_backend(load_config(None).tracking)


class Recorder:
    """Stands for Accelerate's tracker of wandb, and records what it is started with."""

    started: typing.ClassVar[list] = []

    def __init__(self, project, mode, **options):
        self.started.append((project, mode, options["config"]["environment"]))
        self.run = SimpleNamespace(dir="FOLDER/files", step=0)

    def start(self):
        pass


@pytest.mark.parametrize(
    ("setting", "variables", "expected"),
    [
        (None, {}, "wandb, offline (no key), project emotion; to upload it later:\n  wandb sync FOLDER\n"),
        (
            None,
            {"WANDB_PROJECT": "mine", "WANDB_API_KEY": "key", "WANDB_MODE": "offline"},
            "wandb, offline (WANDB_MODE=offline), project mine;",
        ),
        ("set", {"WANDB_PROJECT": "mine", "WANDB_API_KEY": "key"}, "wandb, online, project set\n"),
        (None, {"WANDB_DISABLED": "1"}, "wandb is off (WANDB_DISABLED=1)\n"),
    ],
    ids=str,
)
def test_the_mode_and_the_project_are_said(setting, variables, expected, monkeypatch, tmp_path, capsys):
    for name in ("WANDB_MODE", "WANDB_DISABLED", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))  # with no key in a file
    monkeypatch.setattr("accelerate.tracking.WandBTracker", Recorder)
    monkeypatch.setattr(Recorder, "started", [])
    (tmp_path / "environment.json").write_text(
        json.dumps({"started": "", "command": ["x"], "working_directory": "/home/me", "python": "3"})
    )
    start_tracking(load_config(None, [f"tracking.project={setting}"] if setting else []), RunFolder(tmp_path))
    out = capsys.readouterr().out
    assert out.startswith(f"tracking: {expected}")
    if Recorder.started:
        ((project, mode, environment),) = Recorder.started
        assert f"{mode}" in out and f"project {project}" in out and environment == {"started": "", "python": "3"}
