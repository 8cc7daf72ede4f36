"""Plan a run: rows, steps, padding, parameters and memory. No weights are loaded, and nothing is downloaded if that can be avoided."""

import sys
from dataclasses import dataclass, replace

import numpy as np
import torch

from emotion.config import BASELINE, Config, DistillationConfig, ModelConfig
from emotion.data.batching import LengthBucketSampler, check_stride, split_batch, tokenize
from emotion.data.reading import read_dataset
from emotion.data.reading.plain_texts import add_texts
from emotion.distributed.collectives import print_on_main
from emotion.distributed.launch import Launch
from emotion.errors import ConfigError
from emotion.labels import LabelSet
from emotion.modeling.architectures import ARCHITECTURES
from emotion.modeling.backbones import BUNDLED_NAME, locate_backbone
from emotion.modeling.tokenization import load_backbone_tokenizer
from emotion.planning import machine
from emotion.planning.memory import Footprint, estimate_footprint
from emotion.text import format_count, wrap_for

NAME_WIDTH = 12
"""Columns of the name of a line."""
EFFICIENCY = 0.7
"""Fraction of the speed of matrix products that training reaches. Source: docs/log/start_up.md, 26 November 2026."""
EFFICIENCY_BASIS = "a guess from one run of MiniLM on a CPU"
"""How this fraction is known."""
GO_EMOTIONS = "google-research-datasets/go_emotions"
KNOWN_DATASETS = {(GO_EMOTIONS, name): (43_410, 28) for name in (None, "simplified")}
"""Numbers of training rows and labels of data sets on the Hub, by source and `data.hub_config`."""


@dataclass(frozen=True)
class Plan:
    """What a run is going to take."""

    config: Config
    num_processes: int
    num_rows: int
    row_source: str
    """How `num_rows` is known."""
    lengths: np.ndarray | None
    """Tokens of each training text, int (num_rows,); None without the texts."""
    length_source: str
    """How `lengths` is known."""
    precision: str
    footprint: Footprint
    largest_batch: tuple[int, int]
    """Rows and width, in tokens, of the largest micro-batch."""
    num_shards: int
    device: str = "cpu"
    num_cut: int = 0
    """Training texts that are longer than `data.max_length`."""
    messages: tuple[str, ...] = ()
    """How the data were read, one sentence each."""
    teacher_epochs: int | None = None
    """Epochs of each teacher that is trained first; None if they are those of the run."""

    @property
    def batch_size(self) -> int:
        """Rows of one optimizer step over all processes."""
        training = self.config.training
        return training.per_device_batch_size * training.gradient_accumulation_steps * self.num_processes

    @property
    def num_steps(self) -> int:
        return -(-self.num_rows // self.batch_size) * self.config.training.num_epochs

    @property
    def padding_fraction(self) -> float:
        """Fraction of padding among the tokens of the first epoch; the lengths must be known."""
        assert self.lengths is not None
        training = self.config.training
        batches = LengthBucketSampler(self.lengths, self.batch_size, training.seed).lay_out(0)
        places = [(rows, process) for rows in batches for process in range(self.num_processes)]
        micro_batches = [split_batch(rows, training.gradient_accumulation_steps, process, self.num_processes) for rows, process in places]
        num_tokens = sum(len(part) * int(self.lengths[part].max()) for parts in micro_batches for part in parts)
        return 1 - int(self.lengths.sum()) / num_tokens

    @property
    def num_tokens(self) -> float:
        """Tokens of all epochs, with padding; `data.max_length` per text if the lengths are not known."""
        per_epoch: float = self.num_rows * self.config.data.max_length
        if self.lengths is not None:
            per_epoch = int(self.lengths.sum()) / (1 - self.padding_fraction)
        return per_epoch * self.config.training.num_epochs


def plan_run(config: Config, num_processes: int, precision: str, num_shards: int = 1) -> Plan:
    """Return the plan of a run whose model is in `num_shards` shards.

    Raises: ConfigError for the baseline; EmotionError if local data, or the config of a backbone without one in `architectures.py`,
        cannot be read.
    """
    if config.model.backbone == BASELINE:
        raise ConfigError(f"--dry-run: model.backbone={BASELINE} has no training steps to plan; start it without --dry-run")
    texts: list[str] | None = None
    messages: tuple[str, ...] = ()
    is_known = (config.data.source, config.data.hub_config) in KNOWN_DATASETS and not config.data.train
    if is_known and not config.data.soft_labels and not config.distillation.texts:  # soft labels must have raters
        num_rows, num_labels = KNOWN_DATASETS[config.data.source, config.data.hub_config]
        label_set = LabelSet(tuple(f"label {column}" for column in range(num_labels)))
        num_rows, row_source = round(num_rows * config.data.train_fraction), "its known size"
    else:
        dataset = read_dataset(config.data)
        label_set, row_source = dataset.label_set, "counted"
        if config.distillation.texts:
            dataset.messages.append(add_texts(dataset, config.distillation.texts, config.data))
            row_source = "counted, with the texts without labels"
        texts, messages = dataset["train"].texts, tuple(dataset.messages)
        num_rows = len(texts)
    training, distillation = config.training, config.distillation.resolve_num_teachers(num_rows)
    if distillation.has_teachers:
        training = distillation.resolve_training(training)
    training = training.resolve_epochs(num_rows, is_student=distillation.has_teachers)
    num_epochs = config.training.resolve_epochs(num_rows, is_student=False).num_epochs
    teacher_epochs = None if num_epochs == training.num_epochs else num_epochs
    config = replace(config, training=training, distillation=distillation)
    lengths, num_cut, length_source = _measure_lengths(config, texts)
    largest_batch = _find_largest_batch(config, lengths, num_processes)
    footprint = estimate_footprint(config.model, config.lora, label_set, precision, *largest_batch, config.data.max_length)
    known = (num_rows, row_source, lengths, length_source)
    parts = (footprint.shard(num_shards), largest_batch, num_shards)
    return Plan(config, num_processes, *known, precision, *parts, num_cut=num_cut, messages=messages, teacher_epochs=teacher_epochs)


def print_plan(config: Config, launch: Launch) -> None:
    """Print how the data were read, as the run does, and its plan for a launch like this."""
    plan = plan_run(config, launch.accelerator.num_processes, launch.precision, launch.num_shards)
    plan = replace(plan, device=str(launch.accelerator.device))
    for message in plan.messages:
        print_on_main(launch.accelerator, f"data: {message}")
    if launch.accelerator.is_main_process:
        for line in format_plan(plan).splitlines():
            print(wrap_for(line, sys.stdout, " " * NAME_WIDTH))


def format_plan(plan: Plan) -> str:
    """Return the plan as text, one line per subject."""
    config, footprint, training = plan.config, plan.footprint, plan.config.training
    is_default = training.precision == "auto" and plan.precision == "fp32"
    trainable_fraction = footprint.num_trainable / footprint.num_parameters
    lines = {
        "backbone": f"{config.model.backbone}, {_describe_variant(config)}",
        "parameters": f"{footprint.num_parameters:,}, of which {footprint.num_trainable:,} are trained ({trainable_fraction:.2%})",
        "data": f"{config.data.name}, {plan.num_rows:,} training rows ({plan.row_source})",
        "targets": "fractions of raters (data.soft_labels)" if config.data.soft_labels else "",
        "teachers": _describe_teachers(plan),
        "tokens": _describe_tokens(plan),
        "steps": f"{plan.num_steps:,} in {training.epochs} epochs, {plan.batch_size} rows each: {plan.num_processes} process(es) x "
        f"{training.gradient_accumulation_steps} micro-batch(es) x {training.per_device_batch_size}",
        "precision": plan.precision + (" (the default of this device; training.precision=bf16 plans for a GPU)" if is_default else ""),
        **_describe_memory(plan),
        "time": _describe_time(plan),
    }
    return "\n".join(f"{name:<{NAME_WIDTH}}{value}" for name, value in lines.items() if value)


def _describe_variant(config: Config) -> str:
    if not config.lora.r:
        return "full fine-tuning"
    return f"LoRA r={config.lora.r}" + (" on NF4" if config.model.quantization == "nf4" else "")


def _describe_teachers(plan: Plan) -> str:
    """Return the trained models that are teachers, or the number to be trained; an empty text without teachers."""
    config = plan.config
    if config.distillation.teachers:
        return ", ".join(config.distillation.teachers)
    num_teachers, configs = config.distillation.num_teachers, config.distillation.teacher_configs
    if not num_teachers:
        return ""
    of_each = f" of each of {', '.join(configs)}" if configs else ""
    if _has_other_teachers(config.distillation):
        return f"{num_teachers}{of_each}, trained first; the lines below describe the run itself, not its teachers"
    if plan.teacher_epochs is not None:
        return f"{num_teachers}, trained first, in {plan.teacher_epochs} epochs each; the lines below describe the student, the time all"
    return f"{num_teachers}, trained first; the lines below describe each of them, and the run itself"


def _has_other_teachers(distillation: DistillationConfig) -> bool:
    """Return whether teachers that are trained first have another backbone or other rows than the run."""
    return bool(distillation.teacher_configs or distillation.texts)


def _describe_tokens(plan: Plan) -> str:
    if plan.lengths is None:
        return f"unknown without the texts; memory is estimated for {plan.config.data.max_length} per text"
    lengths, limit = plan.lengths, plan.config.data.max_length
    fraction = plan.num_cut / len(lengths)
    cut = f"; {format_count(plan.num_cut, 'text')} ({fraction:.1%}) cut at data.max_length={limit}" if plan.num_cut else ""
    return f"{lengths.mean():.1f} per text, at most {lengths.max()}, {plan.padding_fraction:.1%} padding ({plan.length_source}){cut}"


def _describe_memory(plan: Plan) -> dict[str, str]:
    """Return the lines on memory."""
    footprint = plan.footprint
    num_rows, width = plan.largest_batch
    lines = {
        "memory": f"weights {_format_gib(footprint.weights)}, gradients {_format_gib(footprint.gradients)}, "
        f"optimizer {_format_gib(footprint.optimizer)}, activations {_format_gib(footprint.activations)} ({num_rows} x {width} tokens)",
        "in all": f"about {_format_gib(footprint.total)} per device",
    }
    if plan.num_shards > 1:
        where = "on each device" if plan.config.model.quantization == "nf4" else "in the main memory of each process"
        lines["in all"] += f"; this is one of {plan.num_shards} shards, so one layer in full comes on top"
        lines["loading"] = f"{_format_gib(footprint.weights * plan.num_shards)} for all weights {where}, before they are sharded"
    return lines | {"fits": _describe_fit(plan)}


def _describe_fit(plan: Plan) -> str:
    """Return whether the run fits into the memory of this machine, as far as it can be estimated."""
    free, where = machine.measure_free_memory(torch.device(plan.device))
    needed, text = plan.footprint.total, ""
    if torch.device(plan.device).type == "cpu":
        num_local = machine.count_local_processes(plan.num_processes)
        needed = num_local * (needed + machine.LIBRARY_BYTES)
        text = f" with {_format_gib(machine.LIBRARY_BYTES)} of libraries" + (f" in each of {num_local} processes" if num_local > 1 else "")
    remedy = "; lower training.per_device_batch_size or data.max_length, or take lora.r=16" if needed > free else ""
    return f"{'no' if needed > free else 'yes'}: {_format_gib(needed)}{text}, {_format_gib(free)} {where}{remedy}"


def _describe_time(plan: Plan) -> str:
    """Return an estimate of the training time on this machine, and what it is made from."""
    rows, width = plan.largest_batch
    speed = machine.measure_speed(torch.device(plan.device), plan.precision, rows * width, plan.footprint.width)
    num_flops = plan.footprint.flops_per_token * plan.num_tokens
    seconds = num_flops / (speed * EFFICIENCY * plan.num_processes)
    basis = f"{num_flops / 1e12:,.1f} TFLOP, {speed / 1e9:,.0f} GFLOP/s in matrix products here, of which training is taken to reach"
    distillation = plan.config.distillation
    has_other_teachers = _has_other_teachers(distillation)
    num_teachers = 0 if has_other_teachers else int(distillation.num_teachers)
    one, of_teacher = "each", seconds
    if plan.teacher_epochs is not None:
        one, of_teacher = "each teacher", seconds * plan.teacher_epochs / plan.config.training.num_epochs
    each = f" for {num_teachers + 1} models, {_format_duration(of_teacher)} for {one}" if num_teachers else ""
    total = _format_duration(seconds + num_teachers * of_teacher)
    left_out = "teachers and validation" if has_other_teachers and distillation.num_teachers else "validation"
    return f"about {total}{each}, without {left_out} ({basis} {EFFICIENCY:.0%}: {EFFICIENCY_BASIS})"


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86_400:,.0f} days"


def _measure_lengths(config: Config, texts: list[str] | None) -> tuple[np.ndarray | None, int, str]:
    """Return the tokens of each text, how many texts are cut at `data.max_length`, and how the tokens were counted."""
    if texts is None:
        return None, 0, ""
    model, source = config.model, "counted"
    if config.model.backbone in ARCHITECTURES:  # its own tokenizer would have to be downloaded
        model, source = ModelConfig(BUNDLED_NAME), "counted by the bundled tokenizer, because the backbone's own is a download"
    tokenizer = load_backbone_tokenizer(model, locate_backbone(model))
    limit = config.data.max_length
    check_stride(tokenizer, limit, config.data.segment_stride)
    lengths = tokenize(tokenizer, texts, limit + 1).lengths  # one more, if a text has it, is cut
    return np.minimum(lengths, limit), int((lengths > limit).sum()), source


def _find_largest_batch(config: Config, lengths: np.ndarray | None, num_processes: int) -> tuple[int, int]:
    """Return rows and width of the widest micro-batch in the first epoch; few training rows may not fill one."""
    training = config.training
    num_rows, num_parts = training.per_device_batch_size, training.gradient_accumulation_steps * num_processes
    if lengths is None:
        return num_rows, config.data.max_length
    batches = LengthBucketSampler(lengths, num_rows * num_parts, training.seed).lay_out(0)
    return -(-max(map(len, batches)) // num_parts), int(max(lengths[rows].max() for rows in batches))


def _format_gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
