"""Start the Accelerator, and refuse a launch that would not do what it asks for: launchers silently drop what they cannot do."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from emotion.config import Config
from emotion.cpu.fast_path import prepare_cpu
from emotion.cpu.machine import find_option, read_launcher
from emotion.distributed.collectives import print_on_main
from emotion.errors import TrainingError

UNSUPPORTED = {
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
}
"""Variables by which Accelerate's launcher asks for sharding that this project does not support, and its name."""
FSDP = "ACCELERATE_USE_FSDP"
FSDP_SETTINGS = {
    "FSDP_VERSION": (("2",), "fsdp_version: 2"),
    "FSDP_OFFLOAD_PARAMS": (("", "false"), "fsdp_offload_params: false"),
    "FSDP_ACTIVATION_CHECKPOINTING": (("", "false"), "fsdp_activation_checkpointing: false, and model.gradient_checkpointing=true"),
    "FSDP_RESHARD_AFTER_FORWARD": (("", "true", "full_shard"), "fsdp_reshard_after_forward: true"),
}
"""By variable of the launcher: the supported values, empty where it may be left out, and what to set in the launch file."""
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables by which a launcher of several processes tells each of them how many there are."""


@dataclass(frozen=True)
class Launch:
    """The processes of this launch."""

    accelerator: Accelerator
    is_sharded: bool
    """Whether the model is to be cut into shards, one a process (FSDP2)."""

    @property
    def precision(self) -> str:
        """`fp32`, `bf16` or `fp16`."""
        return "fp32" if self.accelerator.mixed_precision == "no" else self.accelerator.mixed_precision

    @property
    def num_shards(self) -> int:
        return self.accelerator.num_processes if self.is_sharded else 1


def start_launch(config: Config) -> Launch:
    """Check how this process was launched, join the others and return the launch.

    Raises: TrainingError for a launch that would not do what it asks for, or a precision that the device lacks.
    """
    check_launcher()
    is_sharded = read_sharding_request()
    timeout = timedelta(minutes=config.training.timeout_minutes)
    accelerator = Accelerator(
        mixed_precision=choose_precision(config.training.precision), kwargs_handlers=[InitProcessGroupKwargs(timeout=timeout)]
    )
    check_world_size(accelerator.num_processes)
    if accelerator.device.type == "cpu" and (message := prepare_cpu()):
        print_on_main(accelerator, message)
    return Launch(accelerator, is_sharded)


def choose_precision(precision: str) -> str:
    """Return Accelerate's name for a precision; `auto` is bf16 on a GPU that has it and fp32 elsewhere.

    On a CPU without AMX or AVX512-BF16, bf16 takes 2-4x the time of fp32, so it has to be asked for.

    Raises: TrainingError for fp16 without a GPU.
    """
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and not torch.cuda.is_available():
        raise TrainingError("training.precision=fp16: needs a GPU; on a CPU take fp32 or bf16")
    return "no" if precision == "fp32" else precision


def check_launcher() -> None:
    """Refuse a launcher that asks for unsupported sharding, or that started one process in place of several.

    `accelerate launch --cpu --num_processes 2` starts one process. It then sets MASTER_ADDR, as it does for several processes only, and no
    size.

    Raises: TrainingError.
    """
    for variable, name in UNSUPPORTED.items():
        if is_set(variable):
            raise TrainingError(
                f"accelerate launch: asked for {name}, which this project does not support: launch with "
                "configs/accelerate/fsdp_lora.yaml (the model in shards, FSDP2) or multi_gpu.yaml (a whole model on each GPU)"
            )
    is_by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    if not is_by_accelerate or "MASTER_ADDR" not in os.environ or any(variable in os.environ for variable in SIZES):
        return
    launcher = read_launcher()
    if launcher is not None and "MASTER_ADDR" not in launcher[1]:  # otherwise it may be the user's own
        number = find_option(launcher[0], "--num_processes") or "N"
        raise TrainingError(
            f"accelerate launch: asked for {number if number != 'N' else 'several'} processes, but it started one; on CPUs take "
            f"`ACCELERATE_USE_CPU=1 torchrun --nproc_per_node={number} train.py ...`, on GPUs `accelerate launch --multi_gpu "
            f"--num_processes {number} train.py ...`, no more than there are GPUs"
        )


def read_sharding_request() -> bool:
    """Return whether the launcher asks for a model in shards (FSDP2), and remove that from the environment.

    Accelerate would shard in its own way on GPUs, and silently not at all on CPUs.

    Raises: TrainingError for unsupported FSDP options.
    """
    is_asked = is_set(FSDP)
    os.environ.pop(FSDP, None)
    if is_asked:
        wrong = [remedy for variable, (values, remedy) in FSDP_SETTINGS.items() if os.environ.get(variable, "").lower() not in values]
        if wrong:
            raise TrainingError(
                f"accelerate launch: unsupported FSDP options; set in its fsdp_config {'; '.join(wrong)}, as "
                "configs/accelerate/fsdp_lora.yaml does"
            )
    return is_asked


def check_world_size(num_processes: int) -> None:
    """Raise a TrainingError unless all processes that a launcher started have joined: without a GPU torchrun's need a variable for it."""
    num_started = int(os.environ.get("WORLD_SIZE", "1"))
    if num_processes != num_started:
        raise TrainingError(
            f"{num_started} processes were started, but each would train by itself: without a GPU they join if ACCELERATE_USE_CPU=1 is set"
        )


def is_set(variable: str) -> bool:
    """Return whether an environment variable says yes."""
    return os.environ.get(variable, "false").lower() in ("true", "1")
