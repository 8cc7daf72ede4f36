"""Holds a launch to what it asks for, before the first process group is made: launchers drop what they cannot do in silence."""

import os

from emotion.errors import TrainingError

SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
"""Variables by which Accelerate's launcher tells a script to shard the model, and what they ask for."""
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables by which a launcher of several processes tells each of them how many there are."""


def check_launch() -> None:
    """Hold the launcher to have started what it was asked for, in a form that states and saved models are right in.

    `accelerate launch` with `--cpu --num_processes 2` starts one process. It then sets MASTER_ADDR, as it does for more than one
    process only, and no size.

    Raises: TrainingError if the model is to be sharded, or one of several processes came.
    """
    for variable, form in SHARDED.items():
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise TrainingError(
                f"accelerate launch: asked for {form}, but states and models are saved from whole weights here: launch with "
                "configs/accelerate/multi_gpu.yaml (DDP), and make the model fit by lora.r=16, model.quantization=nf4 or "
                "model.gradient_checkpointing=true"
            )
    is_by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    if not is_by_accelerate or "MASTER_ADDR" not in os.environ or any(variable in os.environ for variable in SIZES):
        return
    launcher = _read_launcher()
    if launcher is not None and "MASTER_ADDR" not in launcher[1]:  # otherwise it may be the user's own
        number = _find_option(launcher[0], "--num_processes") or "N"
        raise TrainingError(
            f"accelerate launch: asked for {number if number != 'N' else 'several'} processes, but it started one; on CPUs take "
            f"`ACCELERATE_USE_CPU=1 torchrun --nproc_per_node={number} train.py ...`, on GPUs `accelerate launch --multi_gpu "
            f"--num_processes {number} train.py ...`, no more than there are GPUs"
        )


def check_meeting(num_processes: int) -> None:
    """Hold the processes that a launcher started to have met: torchrun's, without a GPU, do so only if Accelerate is told.

    Raises: TrainingError if each would train by itself.
    """
    num_started = int(os.environ.get("WORLD_SIZE", "1"))
    if num_processes != num_started:
        raise TrainingError(
            f"{num_started} processes were started, but each would train by itself: without a GPU they meet if ACCELERATE_USE_CPU=1 is set"
        )


def _read_launcher() -> tuple[list[str], dict[str, str]] | None:
    """Return words and environment of the process that started this one; None where they may not be read."""
    import psutil  # Accelerate needs it too

    try:
        parent = psutil.Process().parent()
        return None if parent is None else (parent.cmdline(), parent.environ())
    except psutil.Error:
        return None


def _find_option(words: list[str], name: str) -> str | None:
    for position, word in enumerate(words):
        option, _, value = word.replace("-", "_").partition("=")
        if option == name.replace("-", "_"):
            return value or (words[position + 1] if position + 1 < len(words) else None)
    return None
