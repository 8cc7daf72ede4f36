"""Several processes and nodes make the run that one makes; a worker that dies takes the run down, and it can be resumed."""

import time

import numpy as np
import pandas as pd
import psutil
import pytest

from emotion.tracking.run_folder import RunFolder
from emotion.training.checkpointing import list_states
from tests.conftest import SAMPLE, run_processes, run_script, start_script
from tests.test_resume import assert_same

SETTINGS = ["training.epochs=1", "data.train_fraction=0.5", "training.log_every=5", "training.per_device_batch_size=16"]
PATIENCE = 60
"""Seconds that a run may outlive one of its workers: it was 2, and torchrun kills what still runs after 30."""


def words(backbone, folder, name, *more):
    given = [f"model.backbone={backbone}", f"run.folder={folder}", f"run.name={name}", *SETTINGS, *more]
    return ["train.py", "--config", "configs/quickstart.yaml", *given]


def test_a_dead_worker_takes_the_run_down_and_it_resumes_to_the_same_bits(tiny_backbones, tmp_path):
    """BERT draws dropout, each process its own."""
    command = words(tiny_backbones["bert"], tmp_path, "whole", "training.save_every_steps=3")
    whole, _ = run_processes(*command, port=29671)
    assert whole.returncode == 0 and "2 process(es)" in whole.stdout, whole.stderr

    states = tmp_path / "cut" / "state"
    command = words(tiny_backbones["bert"], tmp_path, "cut", "training.save_every_steps=3")
    script = start_script("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29672", *command, warm=0)
    deadline = time.monotonic() + 120
    while not list_states(states) and script.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    worker = next(child for child in psutil.Process(script.number).children() if child.environ().get("RANK") == "1")
    worker.kill()
    assert script.wait(PATIENCE) != 0
    report = script.outputs[1].read_text()
    assert "rank      : 1 (local_rank: 1)" in report and f"Signal 9 (SIGKILL) received by PID {worker.pid}" in report

    resumed, _ = run_processes(*command, "--resume", port=29673)
    assert resumed.returncode == 0 and "resumed after step" in resumed.stdout, resumed.stderr
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_two_nodes_make_the_run_that_one_process_makes(tiny_backbones, tmp_path):
    """Mistral draws no dropout, so all is the same but for the order of sums."""
    launch = ["-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/two_nodes.yaml"]
    launch += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", "29674"]
    command = words(tiny_backbones["mistral"], tmp_path, "nodes")
    nodes = [start_script(*launch, "--machine_rank", str(rank), *command, warm=rank) for rank in range(2)]
    for node in nodes:
        assert node.wait(120) == 0, node.outputs[1].read_text()
    one = run_script(*words(tiny_backbones["mistral"], tmp_path, "one", "training.gradient_accumulation_steps=2"))
    assert one.returncode == 0, one.stderr
    assert "2 process(es)" in nodes[0].outputs[0].read_text()

    ours, theirs = (RunFolder(tmp_path / name).read_metrics() for name in ("one", "nodes"))
    assert [row["kind"] for row in ours].count("validation") == 1 and len(ours) == len(theirs) > 4
    kept = {"loss", "step", "examples_seen", "kind", "padding_share"} | {key for key in ours[-1] if "_f1" in key or "precision" in key}
    assert len(kept) > 8
    for row, other in zip(ours, theirs, strict=True):
        assert row.keys() == other.keys()
        for key in kept & row.keys() - {"padding_share"}:
            assert other[key] == (pytest.approx(row[key], abs=1e-6) if isinstance(row[key], float) else row[key]), (row["step"], key)

    frames = [pd.read_parquet(RunFolder(tmp_path / name).predictions("validation")) for name in ("one", "nodes")]
    ids = pd.read_csv(SAMPLE / "validation.csv").id.tolist()
    assert len(set(ids)) == len(ids) == 300
    assert all(frame.id.tolist() == ids for frame in frames)
    np.testing.assert_allclose(frames[1].iloc[:, 29:], frames[0].iloc[:, 29:], rtol=0, atol=1e-6)
