"""The log of a resumed run has exactly the rows before its state, whatever happened to the file; what is lost is said."""

import json

import pytest

from emotion.tracking.efficiency import EfficiencyMeter, StepResult
from emotion.tracking.history import History
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.trackers import Tracking

NUM_ROWS = 6


@pytest.fixture
def log(tmp_path):
    """A run with `NUM_ROWS` rows before its state and two after it, the position of the state, and the bytes before it."""
    run = RunFolder(tmp_path)
    with open_history(run) as history:
        for step in range(1, NUM_ROWS + 3):
            if step == NUM_ROWS + 1:
                position, before = history.capture(), run.metrics.read_bytes()
            history.add_step(step, StepResult(0.5, 1.0, 1e-3, 32, 900, 1_000), 0.1)
    assert before.count(b"\n") == NUM_ROWS and run.metrics.read_bytes().startswith(before) and len(position["losses"]) == 0
    return run, json.loads(json.dumps(position)), before


def open_history(run):
    return History(run, EfficiencyMeter(), 100, 10, 1, False, Tracking())


def resume(run, position):
    with open_history(run) as history:
        history.restore(position, NUM_ROWS)


def test_rows_after_the_state_are_removed(log, capsys):
    run, position, before = log
    resume(run, position)
    assert run.metrics.read_bytes() == before and "metrics.jsonl" not in capsys.readouterr().out


def test_a_state_of_an_older_version_has_no_checksum(log, capsys):
    run, position, before = log
    del position["metrics_checksum"]
    resume(run, position)
    assert run.metrics.read_bytes() == before and "metrics.jsonl" not in capsys.readouterr().out


DAMAGES = {
    "gone": (lambda content: None, 0),
    "empty": (lambda content: b"", 0),
    "cut within a row": (lambda content: content[: len(content) // 8 * 3], 2),
    "cut before the end of a row": (lambda content: content.split(b"\n")[0], 0),
    "flipped quote": (lambda content: content.replace(b'"', b"\xa2", 1), NUM_ROWS - 1),
    "flipped key": (lambda content: content.replace(b"loss", b"lors", 1), NUM_ROWS - 1),
    "flipped digit": (lambda content: content.replace(b'"loss": 0.5', b'"loss": 0.4', 1), NUM_ROWS),
    "filled with NUL": (lambda content: content.split(b"\n")[0] + b"\n" + bytes(len(content)), 1),
    "other JSON": (lambda content: b"[]\nnull\n1\n" + content, NUM_ROWS - 1),
    "nested": (lambda content: b"[" * 100_000 + b"\n" + content, 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_left_of_a_damaged_log_goes_on(damage, log, capsys):
    run, position, before = log
    change, num_left = DAMAGES[damage]
    content = change(run.metrics.read_bytes())
    run.metrics.unlink() if content is None else run.metrics.write_bytes(content)
    resume(run, position)
    rows = run.read_metrics()
    assert len(rows) == num_left and all(row["kind"] == "train" for row in rows)
    message = f"{run.metrics}: rows are missing or changed; {num_left} of those before the state are left; the model is not affected"
    assert message in capsys.readouterr().out
    assert set(run.metrics.read_bytes().splitlines()) - set(before.splitlines()) == set() or damage == "flipped digit"
