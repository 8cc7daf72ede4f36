"""One process at a time works on a run or a scored file, and the lock of a process that is gone blocks nobody."""

import json
import re
import signal
import subprocess
import sys

import pytest

from emotion.errors import StorageError
from emotion.locks import LockHeldError, describe_holder, hold_lock, is_locked
from tests.conftest import ROOT, run_script

HOLDER = """
import sys, time
from pathlib import Path
from emotion.locks import hold_lock
with hold_lock(Path(sys.argv[1]), "", ""):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock `tmp_path/lock`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lock")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_held_lock_is_refused_with_its_holder(holder, tmp_path):
    assert is_locked(tmp_path / "lock")
    with pytest.raises(LockHeldError) as caught, hold_lock(tmp_path / "lock", "F: is being written", "wait for it"):
        pass
    sign = rf"F: is being written by process {holder.pid} on \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d; wait for it"
    assert re.fullmatch(sign, str(caught.value))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_process_that_is_gone_is_free(number, holder, tmp_path):
    holder.send_signal(number)
    holder.wait()
    assert (tmp_path / "lock").exists() and not is_locked(tmp_path / "lock")
    with hold_lock(tmp_path / "lock", "", ""):
        assert is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"process": "x"}', '{"process": 1}'])
def test_a_holder_that_cannot_be_read_is_another_process(content, tmp_path):
    (tmp_path / "lock").write_text(content)
    assert describe_holder(tmp_path / "lock") == "another process"


def test_a_lock_that_cannot_be_created_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/lock: cannot be locked"), hold_lock(tmp_path / "file" / "lock", "", ""):
        pass


@pytest.mark.slow
def test_a_second_trainer_of_one_run_is_told_of_the_first(tmp_path):
    """Fresh or resumed, and the run that the lock's holder left is resumed when it is gone."""
    data = tmp_path / "train.csv"
    data.write_text("text,labels\n" + "".join(f"{word} {i},{word}\n" for i in range(30) for word in ("joy", "anger")))
    command = ["train.py", "--config", "configs/tfidf.yaml", f"data.source={data}", "data.hub_config=null", f"run.folder={tmp_path}/runs"]
    command += ["run.name=a", "tracking.backend=none", "--resume"]
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    with hold_lock(run / ".lock", "", ""):
        result = run_script(*command)
        assert result.returncode == 2 and not (run / "config.yaml").exists()
        assert re.search(
            rf"^error: {run}: is being written by process \d+ on .* since .*; wait for it, or choose another", result.stderr, re.M
        )
    assert run_script(*command).returncode == 0
    assert json.loads((run / "efficiency.json").read_text())["interrupted_after_step"] is None
