"""A state that is not what was written is skipped for the one before it; states of older versions are read."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from emotion.config import load_config
from emotion.data.reading import Examples
from emotion.errors import ConfigError
from emotion.training.fingerprint import describe_changes, fingerprint_run
from emotion.training.state import (
    BEST,
    CHECKSUMS,
    FILES,
    Progress,
    TrainState,
    find_state,
    list_states,
    read_newest_state,
    write_state,
)
from tests.conftest import ROOT


def make_position():
    meter = {"num_examples": 64, "num_tokens": 900, "num_positions": 1_000, "step_seconds": 1.5, "saving_seconds": 0.1, "seconds": 3.0}
    return {"metrics_size": 0, "losses": [0.5, 0.25], "meter": meter}


def make_state(step):
    progress = Progress(step, 0, 32, make_position(), {}, {"training.seed": 0})
    return TrainState(
        progress, {"w": torch.full((50,), step)}, {"w|exp_avg": torch.ones(50)}, {"cpu-0": torch.get_rng_state()}, np.ones((3, 2))
    )


def flip(path):
    content = bytearray((path / "optimizer.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "optimizer.safetensors").write_bytes(content)


def truncate(path):
    content = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(content[: len(content) // 2])


def tamper(path):
    progress = json.loads((path / "progress.json").read_text())
    (path / "progress.json").write_text(json.dumps(progress | {"num_worse": 7}))


def write_progress(path, **changes):
    """Change the values of progress.json, and its checksum with them."""
    content = json.dumps(json.loads((path / "progress.json").read_text()) | changes).encode()
    (path / "progress.json").write_bytes(content)
    checksums = json.loads((path / "checksums.json").read_text())
    (path / "checksums.json").write_text(json.dumps(checksums | {"progress.json": hashlib.sha256(content).hexdigest()}))


def forget(path, name):
    """Remove a file from checksums.json."""
    checksums = json.loads((path / "checksums.json").read_text())
    del checksums[name]
    (path / "checksums.json").write_text(json.dumps(checksums))


DAMAGES = {
    "flipped byte": flip,
    "truncated": truncate,
    "tampered": tamper,
    "lost file": lambda path: (path / "best.safetensors").unlink(),
    "lost checksums": lambda path: (path / "checksums.json").unlink(),
    "torn checksums": lambda path: (path / "checksums.json").write_text('{"weights'),
    "empty": lambda path: [shutil.rmtree(path), path.mkdir()],
    **{
        f"checksums are {content[:5]}": lambda path, content=content: (path / "checksums.json").write_text(content)
        for content in ("[]", "{}", "null", "1", '"text"', "[" * 100_000)
    },
    "checksums without the weights": lambda path: forget(path, "weights.safetensors"),
    "checksums without the best logits": lambda path: forget(path, "best.safetensors"),
    "checksum of another type": lambda path: (path / "checksums.json").write_text(
        json.dumps(dict.fromkeys(json.loads((path / "checksums.json").read_text()), 0))
    ),
    "other step": lambda path: write_progress(path, step=4),
    "step as text": lambda path: write_progress(path, step="8"),
    "step as truth value": lambda path: write_progress(path, num_worse=True),
    "unknown key": lambda path: write_progress(path, other=1),
    "fingerprint is a list": lambda path: write_progress(path, fingerprint=[1]),
    "log without a position": lambda path: write_progress(path, history={}),
    "log at no number": lambda path: write_progress(path, history=make_position() | {"metrics_size": "0"}),
    "log without losses": lambda path: write_progress(path, history=make_position() | {"losses": None}),
    "log without a meter": lambda path: write_progress(path, history=make_position() | {"meter": []}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_skipped_for_the_one_before(damage, tmp_path):
    for step in (4, 8):
        newest = write_state(tmp_path, make_state(step), num_kept=2)
    assert read_newest_state(tmp_path)[0].progress.step == 8
    damage(newest)
    state, messages = read_newest_state(tmp_path)
    assert len(messages) == 1 and messages[0].startswith(f"{newest}: is damaged")
    assert state.progress == make_state(4).progress and torch.equal(state.weights["w"], make_state(4).weights["w"])


def test_states_of_older_versions_are_read(tmp_path):
    """They called a batch a window."""
    path = write_state(tmp_path, make_state(4), num_kept=1)
    progress = json.loads((path / "progress.json").read_text())
    progress["window_size"] = progress.pop("batch_size")
    progress["fingerprint"]["windows of a bucket"] = 128
    content = json.dumps(progress).encode()
    (path / "progress.json").write_bytes(content)
    checksums = json.loads((path / "checksums.json").read_text())
    (path / "checksums.json").write_text(json.dumps(checksums | {"progress.json": hashlib.sha256(content).hexdigest()}))
    state, messages = read_newest_state(tmp_path)
    assert messages == [] and state.progress.batch_size == 32 and state.progress.fingerprint["batches of a bucket"] == 128


def test_the_newest_states_are_kept(tmp_path):
    for step in (2, 4, 10):
        write_state(tmp_path, make_state(step), num_kept=2)
    assert [path.name for path in list_states(tmp_path)] == ["step-000000010", "step-000000004"]


@pytest.mark.parametrize("num_kept", [1, 2])
def test_a_damaged_state_of_a_later_step_takes_no_place(num_kept, tmp_path):
    truncate(write_state(tmp_path, make_state(100), num_kept))
    for step in (40, 50, 60):  # training went on from a state before it
        write_state(tmp_path, make_state(step), num_kept)
    assert [read_newest_state(tmp_path)[0].progress.step, len(list_states(tmp_path))] == [60, num_kept]
    assert [path.name for path in list_states(tmp_path)] == ["step-000000060", "step-000000050"][:num_kept]


def test_no_undamaged_state(tmp_path):
    truncate(write_state(tmp_path, make_state(1), num_kept=1))
    state, messages = read_newest_state(tmp_path)
    assert state is None and len(messages) == 1


def test_batches_laid_out_differently_are_another_run(monkeypatch):
    """A state tells how many batches were taken: in another layout those would be other rows."""
    config = load_config(str(ROOT / "configs" / "quickstart.yaml"), [])
    before = fingerprint_run(config, {})
    monkeypatch.setattr("emotion.training.fingerprint.BUCKET_BATCHES", 7)
    assert describe_changes(before, fingerprint_run(config, {})) == ["batches of a bucket: 128 -> 7"]


def test_rows_of_which_other_labels_were_annotated_are_another_run():
    config = load_config(str(ROOT / "configs" / "quickstart.yaml"), [])
    rows = Examples(["1", "2"], ["a", "b"], np.eye(2, dtype=bool))
    prints = [
        fingerprint_run(config, {"train": replace(rows, is_judged=is_judged)})
        for is_judged in (None, np.eye(2, dtype=bool), np.ones((2, 2)) > 0)
    ]
    assert len({values["rows of train"] for values in prints}) == 3


def test_other_folders_among_the_states_are_left_alone(tmp_path):
    for name in ("step-000000009-copy", "step-old"):
        (tmp_path / name).mkdir()
    for step in (2, 4, 10):
        write_state(tmp_path, make_state(step), num_kept=2)
    assert {path.name for path in tmp_path.iterdir()} == {"step-000000009-copy", "step-old", "step-000000010", "step-000000004"}
    assert read_newest_state(tmp_path)[0].progress.step == 10


def test_files_of_a_state_have_the_permissions_of_the_umask(tmp_path):
    mask = os.umask(0o027)
    try:
        path = write_state(tmp_path, make_state(4), num_kept=1)
    finally:
        os.umask(mask)
    assert {file.name: file.stat().st_mode & 0o777 for file in path.iterdir()} == dict.fromkeys([*FILES, CHECKSUMS, BEST], 0o640)


class OneProcess:
    is_main_process = True
    print = staticmethod(print)


def test_a_run_without_its_best_model_is_not_resumed(tmp_path):
    states, model = tmp_path / "state", tmp_path / "model"
    write_state(states, make_state(4), num_kept=1)
    with pytest.raises(ConfigError, match=r"cannot resume: its best model so far, .*model, is gone; put it back, or start anew"):
        find_state(states, {"training.seed": 0}, False, OneProcess())
    model.mkdir()
    (model / "emotion.json").touch()
    assert find_state(states, {"training.seed": 0}, False, OneProcess()).progress.step == 4
    model.rename(tmp_path / ".model.old")  # as a kill leaves it while the model is replaced
    assert find_state(states, {"training.seed": 0}, False, OneProcess()).progress.step == 4 and model.is_dir()


def test_a_run_without_a_validation_needs_no_model(tmp_path):
    write_state(tmp_path / "state", replace(make_state(4), best_logits=None), num_kept=1)
    assert find_state(tmp_path / "state", {"training.seed": 0}, False, OneProcess()).best_logits is None
