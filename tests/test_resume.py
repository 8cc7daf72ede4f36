"""A run that is killed and resumed is the run that was not, bit by bit."""

import functools
import json
import re
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest

from emotion.tracking.run_folder import RunFolder
from emotion.training.state import list_states
from tests.conftest import as_process, run_script, start_script

TIMES = {"seconds", "peak_memory", "examples_per_second", "tokens_per_second"}
WAYS = {
    "full": ["model.backbone={bert}"],
    "distilled": ["model.backbone={bert}", "distillation.teachers={teacher}"],
    "nf4": ["model.backbone={mistral}", "lora.r=4", "model.quantization=nf4"],
}
SETTINGS = ["training.per_device_batch_size=32", "training.epochs=2", "training.log_every=7", "training.save_every_steps=4"]
DATA = ["data.train_fraction=0.5"]


@pytest.fixture(scope="module")
def places(tiny_backbones, tiny_run):
    """What runs are made from: backbones by kind, and a teacher."""
    return {**tiny_backbones, "teacher": tiny_run}


def words(way, places, folder, name, *more):
    given = [word.format(**places) for word in WAYS[way]]
    return ["train.py", "--config", "configs/quickstart.yaml", *given, *SETTINGS, *DATA, f"run.folder={folder}", f"run.name={name}", *more]


@pytest.fixture(scope="module")
def whole_run(places, tmp_path_factory):
    """The folder of the uninterrupted run of a way, made once."""
    folder = tmp_path_factory.mktemp("whole")

    @functools.cache
    def make(way):
        result = run_script(*words(way, places, folder, way))
        assert result.returncode == 0, result.stderr
        return folder / way

    return make


def wait_until(script, is_time):
    """Wait until `is_time()`, the end of the script, or two minutes."""
    deadline = time.monotonic() + 120
    while script.poll() is None and time.monotonic() < deadline and not is_time():
        time.sleep(0.002)


def kill_when(words, is_time, number=signal.SIGKILL):
    """Start a script, send it a signal as soon as `is_time()`, and return its exit status."""
    script = start_script(*words)
    wait_until(script, is_time)
    script.send_signal(number)
    return script.wait(120)


def contents(folder):
    """Return all of a run that must not depend on whether it was interrupted."""
    run = RunFolder(folder)
    rows = [{key: value for key, value in row.items() if key not in TIMES} for row in run.read_metrics()]
    weights = {path.name: path.read_bytes() for path in run.model.glob("*.safetensors")}
    return rows, weights, pd.read_parquet(run.predictions("validation")), (run.model / "emotion.json").read_text()


def assert_same(first, second):
    for one, other in zip(contents(first), contents(second), strict=True):
        if isinstance(one, pd.DataFrame):
            pd.testing.assert_frame_equal(one, other, check_exact=True)
        else:
            assert one == other and len(one) > 0


@pytest.mark.parametrize("way", ["full", "nf4"])
def test_killed_and_resumed_equals_uninterrupted(way, whole_run, places, tmp_path):
    whole = whole_run(way)
    states = tmp_path / "cut" / "state"
    generator = np.random.default_rng(0)
    moments = [
        lambda: len(list(states.glob(".step-*.partial"))) > 0,  # while it saves
        lambda: len(list_states(states)) > 0 and time.sleep(generator.random() / 2) is None,  # somewhere in a window
    ]
    for is_time in moments:
        status = kill_when(words(way, places, tmp_path, "cut", "--resume"), is_time)
        assert status == -signal.SIGKILL
    last = run_script(*words(way, places, tmp_path, "cut", "--resume"))
    assert last.returncode == 0 and "resumed after step" in last.stdout, last.stderr
    assert_same(whole, tmp_path / "cut")
    assert not states.exists()
    again = run_script(*words(way, places, tmp_path, "cut", "--resume"))
    assert again.returncode == 2 and "is finished" in again.stderr


def test_sigterm_saves_and_a_damaged_state_gives_way_to_the_one_before(whole_run, places, tmp_path):
    whole = whole_run("distilled")
    run = tmp_path / "cut"
    status = kill_when(words("distilled", places, tmp_path, "cut"), lambda: len(list_states(run / "state")) == 2, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert (run / "model" / "emotion.json").is_file()  # what is done is usable
    newest, before = list_states(run / "state")
    weights = newest / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = run_script(*words("distilled", places, tmp_path, "cut", "--resume", "training.epochs=4"))
    assert changed.returncode == 2 and "training.epochs: 2 -> 4" in changed.stderr and "--resume-anyway" in changed.stderr
    resumed = run_script(*words("distilled", places, tmp_path, "cut", "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert "weights.safetensors is not what was written" in resumed.stdout
    assert f"resumed after step {int(before.name.removeprefix('step-'))}" in resumed.stdout
    assert "teacher 1 of 1" not in resumed.stderr  # what it said is kept
    assert_same(whole, run)


def test_micro_batches_that_memory_had_cut_in_halves_stay_so(places, tmp_path):
    """Resumed where memory is enough, with dropout: other micro-batches would draw it otherwise."""
    short = {"SHORT_RANK": "0", "MOST_ROWS": "16", "SHORT_IN": "forward"}
    whole = ["tests/short_of_memory.py", *words("full", places, tmp_path, "whole")[1:]]
    result = run_script(*whole, **short)
    assert result.returncode == 0 and "micro-batches are cut in halves" in result.stdout, result.stderr
    script = start_script("tests/short_of_memory.py", *words("full", places, tmp_path, "cut")[1:], **short)
    wait_until(script, lambda: list_states(tmp_path / "cut" / "state"))
    script.send_signal(signal.SIGTERM)
    assert script.wait(120) == 128 + signal.SIGTERM
    resumed = run_script(*words("full", places, tmp_path, "cut", "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert_same(tmp_path / "whole", tmp_path / "cut")


def limit_file_size(script, states):
    """Let the running script write no file beyond 200 KB: the weights of a state have more."""
    resource.prlimit(script.number, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    return "larger than a file may be here"


def fill_device(script, states):
    """Fill the device that the states are on, but for 200 KB."""
    size = shutil.disk_usage(states).free - 200_000
    (states.parents[1] / "ballast").write_bytes(bytes(size))
    return "no space left on the device"


@pytest.fixture
def small_device(tmp_path):
    """A device of 16 MiB, where this user may mount one."""
    place = tmp_path / "device"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], capture_output=True, check=False)
    yield place
    if mounted.returncode == 0:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("fill", [limit_file_size, fill_device])
def test_a_full_disk_stops_the_run_in_one_line_and_what_was_saved_is_good(fill, whole_run, places, small_device):
    if fill is fill_device and not small_device.is_mount():
        pytest.skip("mounting a tmpfs is not allowed here")
    whole, run = whole_run("full"), small_device / "cut"
    script = start_script(*words("full", places, small_device, "cut"))
    while not list_states(run / "state") and script.poll() is None:
        time.sleep(0.002)
    said = fill(script, run / "state")
    assert script.wait(120) == 2
    lines = [line for line in script.outputs[1].read_text().splitlines() if "error" in line]
    assert len(lines) == 1 and said in lines[0] and "Traceback" not in script.outputs[1].read_text()
    needed = re.search(r"needed are ([0-9.]+) MiB", lines[0])
    assert needed and 0.2 < float(needed[1]) < 16
    assert not list(run.rglob("*partial*"))
    (small_device / "ballast").unlink(missing_ok=True)
    resumed = run_script(*words("full", places, small_device, "cut", "--resume"))
    assert resumed.returncode == 0 and "resumed after step" in resumed.stdout and "damaged" not in resumed.stdout, resumed.stderr
    assert_same(whole, run)
    assert 0 < json.loads((run / "efficiency.json").read_text())["saving_seconds"] < 60


def test_started_on_two_processes_and_resumed_on_one(places, tmp_path):
    """Mistral draws no dropout, so the loss curve is the same but for the order of sums."""
    common = ["lora.dropout=0", "training.per_device_batch_size=16"]
    whole = run_script(*words("nf4", places, tmp_path, "whole", *common, "training.gradient_accumulation_steps=2"))
    assert whole.returncode == 0, whole.stderr
    states = tmp_path / "cut" / "state"
    cut = words("nf4", places, tmp_path, "cut", *common)
    scripts = [start_script(*cut, warm=rank, **as_process(rank, 29622)) for rank in range(2)]
    wait_until(scripts[0], lambda: len(list_states(states)) == 2)
    for script in scripts:
        script.send_signal(signal.SIGTERM)
    assert [script.wait(120) for script in scripts] == [128 + signal.SIGTERM] * 2
    assert len(list_states(states)) > 0
    resumed = run_script(*words("nf4", places, tmp_path, "cut", *common, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    ours, theirs = ([row["loss"] for row in RunFolder(tmp_path / name).read_metrics()] for name in ("whole", "cut"))
    assert len(ours) == len(theirs) > 5 and theirs == pytest.approx(ours, abs=1e-6)


def test_teachers_that_a_run_trains_for_itself_are_those_trained_by_hand(places, tmp_path):
    own = ["distillation.num_teachers=2", "distillation.weight=1"]
    given = words("full", places, tmp_path, "own", *own, "--resume")
    teachers = [tmp_path / "own" / "teachers" / f"own-teacher-{number}" for number in (1, 2)]
    for run in (teachers[1], tmp_path / "own"):  # killed in the second teacher, and in the student
        assert kill_when(given, lambda run=run: len(list_states(run / "state")) > 0) == -signal.SIGKILL
    changed = run_script(*given, "training.weight_decay=0.1")
    assert changed.returncode == 2, changed.stderr
    assert "own-teacher-1: cannot be resumed as it was, changed are training.weight_decay: 0.01 -> 0.1" in changed.stderr
    last = run_script(*given)
    assert last.returncode == 0 and last.stdout.count("resumed after step") == 1, last.stderr
    for number, teacher in enumerate(teachers, start=1):
        alone = run_script(*words("full", places, tmp_path, f"teacher-{number}", f"training.seed={1000 * number}"))
        assert alone.returncode == 0, alone.stderr
        assert_same(tmp_path / f"teacher-{number}", teacher)
    seconds, *taught = (json.loads(RunFolder(run).efficiency.read_text()) for run in (tmp_path / "own", *teachers))
    assert seconds["teachers_seconds"] == pytest.approx(sum(row["total_seconds"] for row in taught)) and taught[0]["teachers_seconds"] == 0
    assert seconds["total_seconds"] > seconds["teachers_seconds"] + seconds["training_seconds"]
    by_hand = f"distillation.teachers={tmp_path / 'teacher-1'},{tmp_path / 'teacher-2'}"
    student = run_script(*words("full", places, tmp_path, "student", by_hand, "distillation.weight=1"))
    assert student.returncode == 0, student.stderr
    assert_same(tmp_path / "student", tmp_path / "own")
