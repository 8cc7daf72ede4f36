"""What a launcher cannot do is refused; the launch files are what Accelerate takes."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from emotion.distributed.launch import check_world_size
from emotion.errors import TrainingError
from emotion.training import launching
from tests.conftest import ROOT, run_script

FILES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
ACCELERATE = ["-m", "accelerate.commands.launch"]
TRAIN = ["train.py", "--config", "configs/quickstart.yaml", "data.source=none.csv"]
"""A run that would end at its first look at the data, with another error."""


def test_every_launch_file_is_found():
    assert {path.stem for path in FILES} == {"one_gpu", "multi_gpu", "two_nodes", "fsdp_lora", "fsdp_qlora", "deepspeed_zero3"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_takes_every_launch_file(path: Path):
    config = load_config_from_file(str(path))  # refuses unknown keys
    form = config.distributed_type.value
    sharded = {"fsdp": "FSDP", "deepspeed": "DEEPSPEED"}.get(path.stem.partition("_")[0])
    assert form == (sharded or ("MULTI_GPU" if config.num_processes > 1 else "NO"))
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


def test_megatron_is_refused_in_one_line():
    result = run_script(*TRAIN, ACCELERATE_USE_MEGATRON_LM="true")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "Megatron-LM" in result.stderr and "fsdp_lora.yaml" in result.stderr


def test_deepspeed_that_is_not_installed_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    monkeypatch.setattr(launching, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"not installed: pip install -r requirements-deepspeed\.txt"):
        launching.read_sharding_request()
    assert (ROOT / "requirements-deepspeed.txt").is_file()


@pytest.mark.parametrize("path", [path for path in FILES if path.stem.startswith(("fsdp", "deepspeed"))], ids=lambda path: path.stem)
def test_launch_files_ask_for_shards_and_accelerate_hears_nothing_of_it(path, tmp_path):
    is_deepspeed = path.stem.startswith("deepspeed")
    if is_deepspeed:
        pytest.importorskip("deepspeed")
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import os\nfrom emotion.distributed.launch import read_sharding_request\n"
        "print(os.environ['WORLD_SIZE'], read_sharding_request(), [name for name in os.environ if name.startswith('ACCELERATE_USE_') and "
        "name != 'ACCELERATE_USE_CPU'])\n"
    )
    result = run_script(*ACCELERATE, "--config_file", str(path), "--main_process_port", str(29693 + FILES.index(path)), str(probe), warm=0)
    lines = result.stdout.splitlines()[-2:]  # DeepSpeed, which the launcher imports, says before that there is no GPU
    assert lines == [f"2 {'zero3' if is_deepspeed else 'fsdp2'} []"] * 2, result.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ["fsdp_version: 2"]),
        ({"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, ["fsdp_offload_params: false"]),
        ({"FSDP_VERSION": "1", "FSDP_ACTIVATION_CHECKPOINTING": "true"}, ["fsdp_version: 2", "model.gradient_checkpointing=true"]),
    ],
)
def test_another_form_of_fsdp_is_refused_with_what_to_set(settings, said):
    result = run_script(*TRAIN, ACCELERATE_USE_FSDP="true", **settings)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert all(words in result.stderr for words in [*said, "fsdp_lora.yaml"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ["zero_stage: 3"]),
        ({"ZERO_STAGE": "2"}, ["zero_stage: 3"]),
        ({"ZERO_STAGE": "3", "OFFLOAD_PARAM_DEVICE": "cpu"}, ["offload_param_device: none"]),
        ({"ZERO_STAGE": "1", "OFFLOAD_OPTIMIZER_DEVICE": "nvme"}, ["zero_stage: 3", "offload_optimizer_device: none"]),
        ({"ZERO_STAGE": "3", "CONFIG_FILE": "own.json"}, ["no deepspeed_config_file"]),
    ],
)
def test_another_form_of_deepspeed_is_refused_with_what_to_set(settings, said):
    result = run_script(
        *TRAIN, ACCELERATE_USE_DEEPSPEED="true", **{f"ACCELERATE_DEEPSPEED_{name}": value for name, value in settings.items()}
    )
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert all(words in result.stderr for words in [*said, "deepspeed_zero3.yaml"])


def test_processes_that_would_train_by_themselves_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="ACCELERATE_USE_CPU=1"):
        check_world_size(1)
    check_world_size(2)


@pytest.mark.parametrize(
    ("words", "environment", "number"),
    [
        ([], {}, 4),
        (["--num_cpu_threads_per_process", "1"], {}, None),
        ([], {"OMP_NUM_THREADS": "1"}, None),  # the user's own
    ],
)
def test_one_thread_that_nobody_asked_for_becomes_all_cores(monkeypatch, words, environment, number):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(launching, "read_launcher", lambda: (["accelerate", "launch", *words, "train.py"], environment))
    monkeypatch.setattr(launching, "count_cores", lambda: 4)
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 8 if logical else 6)
    taken = []
    monkeypatch.setattr(launching.torch, "set_num_threads", taken.append)
    message = launching.restore_cpu_threads()
    assert taken == ([number] if number else [])
    assert (message is None) == (number is None) and (message is None or "4 are used" in message)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launching.restore_cpu_threads() is None
