"""Several processes and nodes make the run that one makes; a worker that dies takes the run down, and it can be resumed."""

import signal

import numpy as np
import pandas as pd
import psutil
import pytest

from emotion.tracking.run_folder import RunFolder
from emotion.training.state import list_states
from tests.conftest import ROOT, SAMPLE, as_process, run_processes, run_script, start_script
from tests.test_resume import assert_same, wait_until

SETTINGS = ["training.epochs=1", "data.train_fraction=0.5", "training.log_every=5", "training.per_device_batch_size=16"]
PATIENCE = 60
"""Seconds that a run may outlive one of its workers: measured were .8 to 1.5, and torchrun kills after 30 what SIGTERM does not end."""


def words(backbone, folder, name, *more):
    given = [f"model.backbone={backbone}", f"run.folder={folder}", f"run.name={name}", *SETTINGS, *more]
    return ["train.py", "--config", "configs/quickstart.yaml", *given]


def test_a_dead_worker_takes_the_run_down_and_it_resumes_to_the_same_bits(tiny_backbones, tmp_path):
    """BERT draws dropout, each process its own. Resumed where one machine does not see the states, it is refused."""
    command = words(tiny_backbones["bert"], tmp_path, "whole", "training.save_every_steps=3")
    whole, _ = run_processes(*command, port=29671)
    assert whole.returncode == 0 and "2 process(es)" in whole.stdout, whole.stderr

    states = tmp_path / "cut" / "state"
    command = words(tiny_backbones["bert"], tmp_path, "cut", "training.save_every_steps=3")
    script = start_script("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29672", *command, warm=0)
    wait_until(script, lambda: list_states(states))
    worker = next(child for child in psutil.Process(script.number).children() if child.environ().get("RANK") == "1")
    worker.kill()
    assert script.wait(PATIENCE) != 0
    report = script.outputs[1].read_text()
    assert "rank      : 1 (local_rank: 1)" in report and f"Signal 9 (SIGKILL) received by PID {worker.pid}" in report

    (tmp_path / "other machine").mkdir()
    there = [str(ROOT / "train.py"), "--config", str(ROOT / command[2]), *words(tiny_backbones["bert"], ".", "cut")[3:], "--resume"]
    places = (tmp_path, tmp_path / "other machine")
    parted = [start_script(*there, warm=rank, folder=places[rank], **as_process(rank, 29677)) for rank in range(2)]
    assert [script.wait(120) for script in parted] == [2, 2]
    assert "find states of different steps" in parted[0].outputs[1].read_text()

    resumed, _ = run_processes(*command, "--resume", port=29673)
    assert resumed.returncode == 0 and "resumed after step" in resumed.stdout, resumed.stderr
    assert_same(tmp_path / "whole", tmp_path / "cut")
    for again in run_processes(*command, "--resume", port=29678):
        assert again.returncode == 2 and "is finished" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.parametrize(("number", "minutes", "sign"), [(signal.SIGKILL, 5, "peer"), (signal.SIGSTOP, 0.4, "imed out")])
def test_a_process_whose_partner_is_gone_or_silent_says_so_in_one_line(number, minutes, sign, tiny_backbones, tmp_path):
    """Where no launcher sees it: the partner is on another machine, say."""
    command = words(tiny_backbones["bert"], tmp_path, "cut", "training.save_every_steps=3", f"training.timeout_minutes={minutes}")
    scripts = [start_script(*command, warm=rank, **as_process(rank, 29679)) for rank in range(2)]
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
def one_run(tiny_backbones, tmp_path_factory):
    """The run of one process that those of two must equal. Mistral draws no dropout, so all is the same but for the order of sums."""
    folder = tmp_path_factory.mktemp("runs")
    result = run_script(*words(tiny_backbones["mistral"], folder, "one", "training.gradient_accumulation_steps=4"))
    assert result.returncode == 0, result.stderr
    return folder / "one"


def assert_equal_to_rounding(ours, theirs):
    """Hold two runs to the same rows, and the same numbers within 1e-6 of one another, each validation row once."""
    rows, others = (RunFolder(path).read_metrics() for path in (ours, theirs))
    assert [row["kind"] for row in rows].count("validation") == 1 and len(rows) == len(others) > 3
    kept = {"loss", "step", "examples_seen", "kind"} | {key for key in rows[-1] if "_f1" in key or "precision" in key}
    assert len(kept) >= 8
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for key in kept & row.keys():
            assert other[key] == (pytest.approx(row[key], abs=1e-6) if isinstance(row[key], float) else row[key]), (row["step"], key)
    frames = [pd.read_parquet(RunFolder(path).predictions("validation")) for path in (ours, theirs)]
    ids = pd.read_csv(SAMPLE / "validation.csv").id.tolist()
    assert len(set(ids)) == len(ids) == 300
    assert all(frame.id.tolist() == ids for frame in frames)
    np.testing.assert_allclose(frames[1].iloc[:, 29:], frames[0].iloc[:, 29:], rtol=0, atol=1e-6)


def test_two_nodes_make_the_run_that_one_process_makes(one_run, tiny_backbones, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/two_nodes.yaml"]
    launch += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", "29674"]
    command = words(tiny_backbones["mistral"], tmp_path, "nodes", "training.gradient_accumulation_steps=2")
    nodes = [start_script(*launch, "--machine_rank", str(rank), *command, warm=rank) for rank in range(2)]
    for node in nodes:
        assert node.wait(120) == 0, node.outputs[1].read_text()
    assert "2 process(es)" in nodes[0].outputs[0].read_text()
    assert_equal_to_rounding(one_run, tmp_path / "nodes")


SHORT = {"SHORT_RANK": "1", "MOST_ROWS": "8"}


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_one_process_of_two_runs_out_of_memory_and_the_run_stays_what_it_is(where, one_run, tiny_backbones, tmp_path):
    command = words(tiny_backbones["mistral"], tmp_path, "short", "training.gradient_accumulation_steps=2")
    short = run_processes("tests/short_of_memory.py", *command[1:], port=29675 if where == "forward" else 29674, SHORT_IN=where, **SHORT)
    assert [result.returncode for result in short] == [0, 0], short[1].stderr
    assert short[0].stdout.count("out of memory; micro-batches are cut in halves") == 1
    assert_equal_to_rounding(one_run, tmp_path / "short")


def test_out_of_memory_where_gradients_are_exchanged_is_one_line(tiny_backbones, tmp_path):
    command = words(tiny_backbones["mistral"], tmp_path, "short")
    other, short = run_processes("tests/short_of_memory.py", *command[1:], port=29676, SHORT_IN="backward", **SHORT)
    assert short.returncode == 2 and other.returncode != 0
    lines = [line for line in short.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "step 1: out of memory with" in lines[0] and "gradient_accumulation_steps" in lines[0]
