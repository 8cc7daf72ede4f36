"""What a launcher cannot do is refused; the launch files are what Accelerate takes."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from emotion.errors import TrainingError
from emotion.training.launching import check_meeting
from tests.conftest import ROOT, run_script

FILES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
ACCELERATE = ["-m", "accelerate.commands.launch"]
TRAIN = ["train.py", "--config", "configs/quickstart.yaml", "data.source=none.csv"]
"""A run that would end at its first look at the data, with another error."""


def test_every_launch_file_is_found():
    assert {path.stem for path in FILES} == {"one_gpu", "multi_gpu", "two_nodes"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_takes_every_launch_file(path: Path):
    config = load_config_from_file(str(path))  # refuses unknown keys
    assert (config.distributed_type.value == "MULTI_GPU") == (config.num_processes > 1)
    assert config.num_machines == (2 if path.stem == "two_nodes" else 1)
    assert config.mixed_precision is None  # training.precision decides


def test_one_process_in_place_of_two_is_refused_and_quiet_leaves_one_line():
    result = run_script(*ACCELERATE, "--quiet", "--cpu", "--num_processes", "2", "--num_machines", "1", *TRAIN)
    errors = [line for line in result.stderr.splitlines() if "error" in line or "Traceback" in line]
    assert result.returncode == 1 and len(errors) == 1  # the status is the launcher's own
    assert errors[0].startswith("error: accelerate launch: asked for 2 processes, but it started one")
    assert "ACCELERATE_USE_CPU=1 torchrun --nproc_per_node=2 train.py" in errors[0]


def test_one_process_where_one_was_asked_for_is_not():
    result = run_script(*ACCELERATE, "--quiet", "--config_file", "configs/accelerate/one_gpu.yaml", *TRAIN)
    assert "none.csv" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharding_is_refused_in_one_line(variable):
    result = run_script(*TRAIN, **{variable: "true"})
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "whole weights" in result.stderr and "multi_gpu.yaml" in result.stderr


def test_processes_that_would_train_by_themselves_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="ACCELERATE_USE_CPU=1"):
        check_meeting(1)
    check_meeting(2)
