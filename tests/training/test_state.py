"""A state that is not what was written is skipped for the one before it; states of older versions are read."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from emotion.config import load_config
from emotion.training.state import (
    Progress,
    TrainState,
    describe_changes,
    fingerprint_run,
    list_states,
    read_newest_state,
    write_state,
)
from tests.conftest import ROOT


def make_state(step):
    progress = Progress(step, 0, 32, {"metrics_size": 10 * step}, {}, {"training.seed": 0})
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


DAMAGES = {
    "flipped byte": flip,
    "truncated": truncate,
    "tampered": tamper,
    "lost file": lambda path: (path / "best.safetensors").unlink(),
    "lost checksums": lambda path: (path / "checksums.json").unlink(),
    "torn checksums": lambda path: (path / "checksums.json").write_text('{"weights'),
    "empty": lambda path: [shutil.rmtree(path), path.mkdir()],
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


def test_no_undamaged_state(tmp_path):
    truncate(write_state(tmp_path, make_state(1), num_kept=1))
    state, messages = read_newest_state(tmp_path)
    assert state is None and len(messages) == 1


def test_batches_laid_out_differently_are_another_run(monkeypatch):
    """A state tells how many batches were taken: in another layout those would be other rows."""
    config = load_config(str(ROOT / "configs" / "quickstart.yaml"), [])
    before = fingerprint_run(config, {})
    monkeypatch.setattr("emotion.training.state.BUCKET_BATCHES", 7)
    assert describe_changes(before, fingerprint_run(config, {})) == ["batches of a bucket: 128 -> 7"]
