"""A launch that would not do what it asks for is refused; Accelerate accepts every launch file."""

import os
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from emotion.cpu import machine
from emotion.distributed.launch import check_launcher, check_world_size, read_sharding_request
from emotion.errors import TrainingError
from tests.conftest import ROOT, run_script

FILES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
ACCELERATE = ["-m", "accelerate.commands.launch"]
TRAIN = ["train.py", "--config", "configs/quickstart.yaml", "data.source=none.csv"]
"""A run that would end at its first look at the data, with another error."""


def test_every_launch_file_is_found():
    assert {path.stem for path in FILES} == {"one_gpu", "multi_gpu", "two_nodes", "fsdp_lora", "fsdp_qlora"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_accepts_every_launch_file(path: Path):
    config = load_config_from_file(str(path))  # refuses unknown keys
    is_sharded = path.stem.startswith("fsdp")
    assert config.distributed_type.value == ("FSDP" if is_sharded else "MULTI_GPU" if config.num_processes > 1 else "NO")
    assert config.num_machines == (2 if path.stem == "two_nodes" else 1)
    assert config.mixed_precision is None  # training.precision decides


@pytest.mark.slow
def test_one_process_in_place_of_two_is_refused_and_quiet_leaves_one_line():
    result = run_script(*ACCELERATE, "--quiet", "--cpu", "--num_processes", "2", "--num_machines", "1", *TRAIN)
    errors = [line for line in result.stderr.splitlines() if "error" in line or "Traceback" in line]
    assert result.returncode == 1 and len(errors) == 1  # the status is the launcher's own
    assert errors[0].startswith("error: accelerate launch: asked for 2 processes, but it started one")
    assert "ACCELERATE_USE_CPU=1 torchrun --nproc_per_node=2 train.py" in errors[0]


def set_launch_environment(monkeypatch, *options):
    """Give this process the environment that `accelerate launch OPTIONS train.py` gives to each that it starts, and return it."""
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args([*options, "train.py"]))
    if arguments.use_fsdp or arguments.multi_gpu:
        environment = prepare_multi_gpu_env(arguments)
    else:
        _, environment = prepare_simple_launcher_cmd_env(arguments)
    monkeypatch.setattr(os, "environ", dict(environment))
    return environment


def test_one_process_where_one_was_asked_for_is_accepted(monkeypatch):
    environment = set_launch_environment(monkeypatch, "--config_file", str(ROOT / "configs/accelerate/one_gpu.yaml"))
    assert "ACCELERATE_MIXED_PRECISION" in environment
    check_launcher()


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "a parallelism config"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
    ],
)
def test_another_library_for_sharding_is_refused_in_one_line(variable, name):
    result = run_script(*TRAIN, **{variable: "true"})
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert f"asked for {name}" in result.stderr and "configs/accelerate/fsdp_lora.yaml" in result.stderr


@pytest.mark.parametrize("path", [path for path in FILES if path.stem.startswith("fsdp")], ids=lambda path: path.stem)
def test_a_launch_file_with_shards_is_read_and_accelerate_does_not_shard_too(path, monkeypatch):
    environment = set_launch_environment(monkeypatch, "--config_file", str(path))
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    assert read_sharding_request()
    assert not [name for name in os.environ if name.startswith("ACCELERATE_USE_") and name != "ACCELERATE_USE_CPU"]
    assert not read_sharding_request()


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, ["fsdp_version: 2"]),
        ({"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, ["fsdp_offload_params: false"]),
        ({"FSDP_VERSION": "1", "FSDP_ACTIVATION_CHECKPOINTING": "true"}, ["fsdp_version: 2", "model.gradient_checkpointing=true"]),
    ],
)
def test_unsupported_fsdp_options_are_refused_with_what_to_set(settings, parts):
    result = run_script(*TRAIN, ACCELERATE_USE_FSDP="true", **settings)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert all(part in result.stderr for part in ["unsupported FSDP options", *parts, "fsdp_lora.yaml"])


def test_processes_that_would_each_train_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="ACCELERATE_USE_CPU=1"):
        check_world_size(1)
    check_world_size(2)


@pytest.mark.parametrize(
    ("arguments", "environment", "num_threads"),
    [
        ([], {}, 4),
        (["--num_cpu_threads_per_process", "1"], {}, None),
        ([], {"OMP_NUM_THREADS": "1"}, None),  # the user's own
    ],
)
def test_the_launchers_default_of_one_thread_becomes_all_cores(monkeypatch, arguments, environment, num_threads):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(machine, "read_launcher", lambda: (["accelerate", "launch", *arguments, "train.py"], environment))
    monkeypatch.setattr(machine, "count_cores", lambda: 4)
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 8 if logical else 6)
    calls = []
    monkeypatch.setattr("torch.set_num_threads", calls.append)
    message = machine.restore_cpu_threads()
    assert calls == ([num_threads] if num_threads else [])
    assert (message is None) == (num_threads is None) and (message is None or "using 4" in message)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert machine.restore_cpu_threads() is None
