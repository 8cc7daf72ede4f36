"""A run that is killed and resumed is the run that was not interrupted, bit by bit."""

import functools
import hashlib
import json
import re
import shutil
import signal
import subprocess

import pytest

from emotion.tracking.run_folder import RunFolder
from emotion.training.state import list_states
from tests.conftest import make_once, run_script, start_processes, start_script
from tests.runs import assert_same_run, kill_when, train_arguments, wait_until

VARIANTS = {"full": ("bert", []), "nf4": ("mistral", ["lora.r=4", "model.quantization=nf4"])}
HANG_UP = getattr(signal, "SIGHUP", signal.SIGTERM)
if signal.getsignal(HANG_UP) is signal.SIG_IGN:
    HANG_UP = signal.SIGTERM
"""What a closed terminal sends; tests that run under nohup cannot receive it, and Windows lacks it."""
SETTINGS = ["training.per_device_batch_size=32", "training.epochs=3", "training.log_every=7", "training.save_every_steps=3"]
"""39 steps."""


@pytest.fixture(scope="module")
def command(tiny_backbones, small_data):
    """A function that returns the command line of a run of a variant."""

    def make(variant, folder, name, *settings):
        backbone, own = VARIANTS[variant]
        return train_arguments(tiny_backbones[backbone], folder, name, f"data.source={small_data}", *own, *SETTINGS, *settings)

    return make


@pytest.fixture(scope="module")
def whole_run(command):
    """A function that returns the folder of the uninterrupted run of a variant, made once."""

    @functools.cache
    def make(variant):
        def train(folder):
            result = run_script(*command(variant, folder, variant))
            assert result.returncode == 0, result.stderr

        return make_once(f"whole-{variant}", train) / variant

    return make


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["full", "nf4"])
def test_killed_and_resumed_equals_uninterrupted(variant, whole_run, command, tmp_path):
    whole = whole_run(variant)
    arguments = command(variant, tmp_path, "cut", "--resume")
    states = tmp_path / "cut" / "state"
    assert kill_when(arguments, lambda: list(states.glob(".step-*.partial"))) == -signal.SIGKILL  # while it saves
    before = list_states(states)
    assert kill_when(arguments, lambda: list_states(states)[:1] > before[:1]) == -signal.SIGKILL  # in a step
    last = run_script(*arguments)
    assert last.returncode == 0 and "resumed after step" in last.stdout, last.stderr
    assert_same_run(whole, tmp_path / "cut")
    assert not states.exists()
    again = run_script(*arguments)
    assert again.returncode == 2 and "is finished" in again.stderr


@pytest.mark.slow
def test_killed_after_the_last_step(whole_run, command, tmp_path):
    """When all that was left to do was to write the results."""
    arguments, states = command("full", tmp_path, "cut", "--resume"), tmp_path / "cut" / "state"
    assert kill_when(arguments, lambda: (states / "step-000000039").exists()) == -signal.SIGKILL
    resumed = run_script(*arguments)
    assert resumed.returncode == 0 and "resumed after step 39" in resumed.stdout, resumed.stderr
    assert_same_run(whole_run("full"), tmp_path / "cut")


def rename_to_older_version(state):
    """Give the keys of a state's progress.json the names that earlier versions wrote, and take away a setting that they did not have."""
    path, checksums = state / "progress.json", state / "checksums.json"
    progress = json.loads(path.read_text())
    progress["window_size"] = progress.pop("batch_size")
    progress["fingerprint"]["windows of a bucket"] = progress["fingerprint"].pop("batches of a bucket")
    del progress["fingerprint"]["data.max_line_length"]
    path.write_text(json.dumps(progress))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    checksums.write_text(json.dumps(json.loads(checksums.read_text()) | {path.name: digest}))


@pytest.mark.slow
def test_a_state_of_an_older_version_is_resumed_to_the_same_bits(whole_run, command, tmp_path):
    whole = whole_run("full")
    arguments, states = command("full", tmp_path, "cut"), tmp_path / "cut" / "state"
    assert kill_when(arguments, lambda: list_states(states)) == -signal.SIGKILL
    for state in list_states(states):
        rename_to_older_version(state)
    newest = int(list_states(states)[0].name.removeprefix("step-"))
    resumed = run_script(*arguments, "--resume")
    assert resumed.returncode == 0 and f"resumed after step {newest}" in resumed.stdout, resumed.stderr
    assert_same_run(whole, tmp_path / "cut")


@pytest.mark.slow
def test_sigterm_saves_a_state_and_a_damaged_one_is_passed_over(whole_run, command, tmp_path):
    """A run with a teacher, whose probabilities are stored too."""
    teacher = f"distillation.teachers={whole_run('full')}"
    whole = run_script(*command("full", tmp_path, "whole", teacher))
    assert whole.returncode == 0, whole.stderr
    run, arguments = tmp_path / "cut", command("full", tmp_path, "cut", teacher)
    status = kill_when(arguments, lambda: len(list_states(run / "state")) == 2, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert (run / "model" / "emotion.json").is_file()  # the best model so far can be used
    newest, before = list_states(run / "state")
    weights = newest / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = run_script(*arguments, "--resume", "training.epochs=4")
    assert changed.returncode == 2 and "cannot resume: these settings changed: training.epochs: 3 -> 4" in changed.stderr
    assert "--resume-anyway" in changed.stderr
    resumed = run_script(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "weights.safetensors is not what was written" in resumed.stdout
    assert f"resumed after step {int(before.name.removeprefix('step-'))}" in resumed.stdout
    assert "teacher 1 of 1" in whole.stderr and "teacher 1 of 1" not in resumed.stderr
    assert_same_run(tmp_path / "whole", run)


@pytest.mark.slow
def test_micro_batches_that_were_halved_stay_halved(command, tmp_path):
    """Resumed where memory is enough, with dropout: micro-batches of another size would draw other masks."""
    short = {"SHORT_RANK": "0", "MAX_ROWS": "16", "SHORT_IN": "forward"}
    result = run_script("tests/short_of_memory.py", *command("full", tmp_path, "whole")[1:], **short)
    assert result.returncode == 0 and "micro-batches are halved from" in result.stdout, result.stderr
    script = start_script("tests/short_of_memory.py", *command("full", tmp_path, "cut")[1:], **short)
    wait_until(script, lambda: list_states(tmp_path / "cut" / "state"))
    script.send_signal(signal.SIGTERM)
    assert script.wait(120) == 128 + signal.SIGTERM
    resumed = run_script(*command("full", tmp_path, "cut", "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def limit_file_size(script, states):
    """Let the running script write no file beyond 200 KB: the weights of a state have more."""
    import resource

    resource.prlimit(script.pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    return "the file exceeds the size limit"


def fill_device(script, states):
    """Fill the device that the states are on, but for 200 KB, while the script stands still."""
    script.send_signal(signal.SIGSTOP)
    size = shutil.disk_usage(states).free - 200_000
    (states.parents[1] / "ballast").write_bytes(bytes(size))
    script.send_signal(signal.SIGCONT)
    return "no space left on the device"


@pytest.fixture
def small_device(tmp_path):
    """A device of 16 MiB, where this user may mount one, otherwise a folder."""
    path = tmp_path / "device"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", path], capture_output=True, check=False)
    yield path
    if mounted.returncode == 0:
        subprocess.run(["umount", path], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("fill", [limit_file_size, fill_device])
def test_a_full_disk_stops_the_run_in_one_line_and_the_states_before_it_are_good(fill, whole_run, command, small_device):
    if fill is fill_device and not small_device.is_mount():
        pytest.skip("mounting a tmpfs is not allowed here")
    if fill is limit_file_size:
        pytest.importorskip("resource")
    whole, run = whole_run("full"), small_device / "cut"
    arguments = command("full", small_device, "cut")
    script = start_script(*arguments)
    wait_until(script, lambda: list_states(run / "state"))
    reason = fill(script, run / "state")
    assert script.wait(120) == 2
    stderr = script.outputs[1].read_text()
    lines = [line for line in stderr.splitlines() if "error" in line]
    assert len(lines) == 1 and reason in lines[0] and "Traceback" not in stderr
    needed = re.search(r"\(([0-9.]+) MiB needed", lines[0])
    assert needed and 0.2 < float(needed[1]) < 16
    assert not list(run.rglob("*partial*"))
    (small_device / "ballast").unlink(missing_ok=True)
    resumed = run_script(*arguments, "--resume")
    assert resumed.returncode == 0 and "resumed after step" in resumed.stdout and "damaged" not in resumed.stdout, resumed.stderr
    assert_same_run(whole, run)
    assert 0 < json.loads((run / "efficiency.json").read_text())["saving_seconds"] < 60


@pytest.mark.slow
def test_started_on_two_processes_and_resumed_on_one(command, tmp_path):
    """Mistral draws no dropout, so the loss curve is the same but for the order of sums."""
    common = ["lora.dropout=0", "training.per_device_batch_size=16"]
    whole = run_script(*command("nf4", tmp_path, "whole", *common, "training.gradient_accumulation_steps=2"))
    assert whole.returncode == 0, whole.stderr
    states = tmp_path / "cut" / "state"
    arguments = command("nf4", tmp_path, "cut", *common)
    scripts = start_processes(*arguments)
    wait_until(scripts[0], lambda: len(list_states(states)) == 2)
    for script in scripts:
        script.send_signal(HANG_UP)
    assert [script.wait(120) for script in scripts] == [128 + HANG_UP] * 2
    assert len(list_states(states)) > 0
    resumed = run_script(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    losses, others = ([row["loss"] for row in RunFolder(tmp_path / name).read_metrics()] for name in ("whole", "cut"))
    assert len(losses) == len(others) > 5 and others == pytest.approx(losses, abs=1e-6)


@pytest.mark.slow
def test_teachers_that_a_run_trains_are_those_trained_by_hand(command, tmp_path):
    own = ["distillation.num_teachers=2", "distillation.weight=1"]
    arguments = command("full", tmp_path, "own", *own, "--resume")
    teachers = [tmp_path / "own" / "teachers" / f"own-teacher-{number}" for number in (1, 2)]
    for run in (teachers[1], tmp_path / "own"):  # killed in the second teacher, and in the student
        assert kill_when(arguments, lambda run=run: len(list_states(run / "state")) > 0) == -signal.SIGKILL
    changed = run_script(*arguments, "training.weight_decay=0.1")
    assert changed.returncode == 2, changed.stderr
    assert "own-teacher-1: cannot resume: these settings changed: training.weight_decay: 0.01 -> 0.1" in changed.stderr
    last = run_script(*arguments)
    assert last.returncode == 0 and last.stdout.count("resumed after step") == 1, last.stderr
    for number, teacher in enumerate(teachers, start=1):
        alone = run_script(*command("full", tmp_path, f"teacher-{number}", f"training.seed={1000 * number}"))
        assert alone.returncode == 0, alone.stderr
        assert_same_run(tmp_path / f"teacher-{number}", teacher)
    seconds, *taught = (json.loads(RunFolder(run).efficiency.read_text()) for run in (tmp_path / "own", *teachers))
    assert seconds["teachers_seconds"] == pytest.approx(sum(row["total_seconds"] for row in taught)) and taught[0]["teachers_seconds"] == 0
    assert seconds["total_seconds"] > seconds["teachers_seconds"] + seconds["training_seconds"]
    by_hand = f"distillation.teachers={tmp_path / 'teacher-1'},{tmp_path / 'teacher-2'}"
    student = run_script(*command("full", tmp_path, "student", by_hand, "distillation.weight=1"))
    assert student.returncode == 0, student.stderr
    assert_same_run(tmp_path / "student", tmp_path / "own")
