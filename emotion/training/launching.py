"""Holds a launch to what it asks for, before the first process group is made: launchers drop what they cannot do in silence."""

import os
from importlib.util import find_spec

import torch

from emotion.errors import TrainingError
from emotion.training.cores import count_cores

SHARDED = {
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
"""Variables by which Accelerate's launcher asks for sharding that is not done here, and its name."""
FSDP, DEEPSPEED = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"
FSDP_SETTINGS = {
    "FSDP_VERSION": (("2",), "fsdp_version: 2"),
    "FSDP_OFFLOAD_PARAMS": (("", "false"), "fsdp_offload_params: false"),
    "FSDP_ACTIVATION_CHECKPOINTING": (("", "false"), "fsdp_activation_checkpointing: false, and model.gradient_checkpointing=true"),
    "FSDP_RESHARD_AFTER_FORWARD": (("", "true", "full_shard"), "fsdp_reshard_after_forward: true"),
}
"""By variable of the launcher: the values that there are, empty where it may be left out, and what to set in the launch file."""
DEEPSPEED_SETTINGS = {
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": (("3",), "zero_stage: 3"),
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": (("", "none"), "offload_optimizer_device: none"),
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": (("", "none"), "offload_param_device: none"),
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": (("", "none"), "no deepspeed_config_file"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (("", "1"), "no gradient_accumulation_steps, but training.gradient_accumulation_steps"),
    "ACCELERATE_GRADIENT_CLIPPING": (("", "none"), "no gradient_clipping, but training.max_grad_norm"),
}
"""The same for DeepSpeed."""
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables by which a launcher of several processes tells each of them how many there are."""


def check_launch() -> None:
    """Hold the launcher to have started what it was asked for, in a form that states and saved models are right in.

    `accelerate launch` with `--cpu --num_processes 2` starts one process. It then sets MASTER_ADDR, as it does for more than one
    process only, and no size.

    Raises: TrainingError if the model is to be sharded in another way than FSDP2 and ZeRO-3, or one of several processes came.
    """
    for variable, form in SHARDED.items():
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise TrainingError(
                f"accelerate launch: asked for {form}, which is not shown to train, save and resume right here: launch with "
                "configs/accelerate/fsdp_lora.yaml (the model in shards) or multi_gpu.yaml (a whole model on each GPU)"
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


def take_sharding(quantization: str = "none") -> str | None:
    """Return the sharding that the launcher asks for, `fsdp2`, `zero3` or None, and take that from the environment.

    Accelerate would shard otherwise, or, without a GPU, not at all.

    Raises: TrainingError for a form of it that there is not, for 4-bit weights in ZeRO-3, or if DeepSpeed is not installed.
    """
    if os.environ.pop(FSDP, "false").lower() in ("true", "1"):
        _check_form("FSDP", FSDP_SETTINGS, "fsdp_config", "fsdp_lora.yaml")
        return "fsdp2"
    if os.environ.pop(DEEPSPEED, "false").lower() not in ("true", "1"):
        return None
    _check_form("DeepSpeed", DEEPSPEED_SETTINGS, "deepspeed_config", "deepspeed_zero3.yaml")
    if quantization != "none":
        raise TrainingError(
            f"accelerate launch: asked for DeepSpeed, which does not shard 4-bit weights (model.quantization={quantization}): launch with "
            "configs/accelerate/fsdp_qlora.yaml, or set model.quantization=none"
        )
    if find_spec("deepspeed") is None:
        raise TrainingError(
            "accelerate launch: asked for DeepSpeed, which is not installed: pip install -r requirements-deepspeed.txt, or launch with "
            "configs/accelerate/fsdp_lora.yaml"
        )
    return "zero3"


def _check_form(name: str, settings: dict[str, tuple[tuple[str, ...], str]], section: str, file: str) -> None:
    wrong = [remedy for variable, (values, remedy) in settings.items() if os.environ.get(variable, "").lower() not in values]
    if wrong:
        raise TrainingError(
            f"accelerate launch: asked for a form of {name} that there is not here: set in its {section} {'; '.join(wrong)}, "
            f"as configs/accelerate/{file} does"
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


def free_threads() -> str | None:
    """Give the only process of `accelerate launch` all cores of a CPU, and return a sentence on it; None if there is nothing to undo.

    The launcher gives each process one thread unless it is told `--cpu`, a number of threads, or OMP_NUM_THREADS.
    """
    import psutil

    is_alone = os.environ.get("WORLD_SIZE", "1") == "1"
    if "ACCELERATE_MIXED_PRECISION" not in os.environ or os.environ.get("OMP_NUM_THREADS") != "1" or not is_alone:
        return None
    launcher = _read_launcher()
    if launcher is None or "OMP_NUM_THREADS" in launcher[1] or _find_option(launcher[0], "--num_cpu_threads_per_process"):
        return None
    num_threads = min(psutil.cpu_count(logical=False) or count_cores(), count_cores())
    if num_threads == 1:
        return None
    torch.set_num_threads(num_threads)
    return f"accelerate launch set one thread where none was asked for; {num_threads} are used (OMP_NUM_THREADS chooses)"


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
