"""A run on several processes and nodes equals that of one; a worker that dies ends the run, and it can be resumed."""

import signal

import psutil
import pytest

from emotion.training.state import list_states
from tests.conftest import ROOT, find_free_port, make_once, run_processes, run_script, start_processes, start_script
from tests.runs import assert_equal_to_rounding, assert_same_run, train_arguments, wait_until

pytestmark = pytest.mark.slow
SETTINGS = ["training.epochs=2", "training.log_every=5", "training.per_device_batch_size=16"]
PATIENCE = 60
"""Seconds that a run may outlive one of its workers: measured were 0.8 to 1.5, and torchrun kills after 30 what SIGTERM does not end."""


@pytest.fixture(scope="module")
def command(tiny_backbones, small_data):
    """A function that returns the command line of a run: 26 steps on two processes. BERT draws dropout, Mistral does not."""
    data = f"data.source={small_data}"
    return lambda family, folder, name, *more: train_arguments(tiny_backbones[family], folder, name, data, *SETTINGS, *more)


def test_a_dead_worker_ends_the_run_and_it_resumes_to_the_same_bits(command, tmp_path):
    """BERT draws dropout, each process its own. Resumed where one machine does not see the states, it is refused."""
    whole, _ = run_processes(*command("bert", tmp_path, "whole", "training.save_every_steps=3"))
    assert whole.returncode == 0 and "2 process(es)" in whole.stdout, whole.stderr

    states = tmp_path / "cut" / "state"
    arguments = command("bert", tmp_path, "cut", "training.save_every_steps=3")
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={find_free_port()}"]
    script = start_script(*launch, *arguments, warm=True)
    wait_until(script, lambda: list_states(states))
    worker = next(child for child in psutil.Process(script.pid).children() if child.environ().get("RANK") == "1")
    worker.kill()
    assert script.wait(PATIENCE) != 0
    report = script.outputs[1].read_text()
    assert "rank      : 1 (local_rank: 1)" in report and f"Signal 9 (SIGKILL) received by PID {worker.pid}" in report

    elsewhere = tmp_path / "other machine"
    elsewhere.mkdir()
    relative = command("bert", ".", "cut", "--resume")
    relative[:3] = [str(ROOT / "train.py"), "--config", str(ROOT / relative[2])]
    apart = start_processes(*relative, folders=(tmp_path, elsewhere))
    assert [script.wait(120) for script in apart] == [2, 2]
    assert "find states of different steps" in apart[0].outputs[1].read_text()

    resumed, _ = run_processes(*arguments, "--resume")
    assert resumed.returncode == 0 and "resumed after step" in resumed.stdout, resumed.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    for again in run_processes(*arguments, "--resume"):
        assert again.returncode == 2 and "is finished" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.parametrize(("number", "minutes", "sign"), [(signal.SIGKILL, 5, "peer"), (signal.SIGSTOP, 0.2, "imed out")])
def test_a_process_whose_partner_is_gone_or_silent_ends_with_one_line(number, minutes, sign, command, tmp_path):
    """Where no launcher watches the processes: the partner is on another machine, say."""
    settings = ["training.save_every_steps=3", f"training.timeout_minutes={minutes}"]
    scripts = start_processes(*command("bert", tmp_path, "cut", *settings))
    wait_until(scripts[0], lambda: list_states(tmp_path / "cut" / "state"))
    scripts[1].send_signal(number)
    assert scripts[0].wait(PATIENCE) == 2
    report = scripts[0].outputs[1].read_text()
    scripts[1].send_signal(signal.SIGKILL)
    scripts[1].wait(PATIENCE)
    assert "Traceback" not in report
    assert "process 0 of 2 (from 0): another one is gone, or was silent for training.timeout_minutes" in report and sign in report
    assert list_states(tmp_path / "cut" / "state")


@pytest.fixture(scope="module")
def one_run(command):
    """The run of one process that those of two must equal. Mistral draws no dropout, so all is the same but for the order of sums."""

    def train(folder):
        result = run_script(*command("mistral", folder, "one", "training.gradient_accumulation_steps=4"))
        assert result.returncode == 0, result.stderr

    return make_once("one-process", train) / "one"


def test_two_nodes_make_the_run_that_one_process_makes(one_run, command, small_data, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/two_nodes.yaml"]
    launch += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(find_free_port())]
    arguments = command("mistral", tmp_path, "nodes", "training.gradient_accumulation_steps=2")
    nodes = [start_script(*launch, "--machine_rank", str(rank), *arguments, warm=True) for rank in range(2)]
    for node in nodes:
        assert node.wait(120) == 0, node.outputs[1].read_text()
    assert "2 process(es)" in nodes[0].outputs[0].read_text()
    assert_equal_to_rounding(one_run, tmp_path / "nodes", small_data)


SHORT = {"SHORT_RANK": "1", "MAX_ROWS": "8"}


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_one_process_of_two_runs_out_of_memory_and_the_run_stays_the_same(where, one_run, command, small_data, tmp_path):
    arguments = command("mistral", tmp_path, "short", "training.gradient_accumulation_steps=2")
    short = run_processes("tests/short_of_memory.py", *arguments[1:], SHORT_IN=where, **SHORT)
    assert [result.returncode for result in short] == [0, 0], short[1].stderr
    assert short[0].stdout.count("out of memory; micro-batches are halved from") == 1
    assert_equal_to_rounding(one_run, tmp_path / "short", small_data)


def test_out_of_memory_where_gradients_are_exchanged_is_one_line(command, tmp_path):
    arguments = command("mistral", tmp_path, "short")
    other, short = run_processes("tests/short_of_memory.py", *arguments[1:], SHORT_IN="backward", **SHORT)
    assert short.returncode == 2 and other.returncode != 0
    lines = [line for line in short.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "step 1: out of memory with" in lines[0] and "gradient_accumulation_steps" in lines[0]
