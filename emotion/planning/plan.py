"""What a run is going to take: rows, steps, padding, parameters, memory; nothing is loaded and, where it can be, nothing downloaded."""

from dataclasses import dataclass

import numpy as np

from emotion.config import BASELINE, Config, ModelConfig
from emotion.data.batching import LengthBucketSampler, tokenize
from emotion.data.reading import read_dataset
from emotion.errors import ConfigError
from emotion.labels import LabelSet
from emotion.modeling.architectures import ARCHITECTURES
from emotion.modeling.backbones import BUNDLED_NAME, load_tokenizer, locate_backbone
from emotion.planning.memory import Footprint, estimate_footprint

KNOWN_DATA = {"google-research-datasets/go_emotions": (43_410, 28)}
"""Training rows and labels of data sets on the Hub."""


@dataclass(frozen=True)
class Plan:
    """A run before it is started; `lengths` are tokens a text, or None where they are not known."""

    config: Config
    num_processes: int
    rows: int
    row_source: str
    lengths: np.ndarray | None
    length_source: str
    precision: str
    footprint: Footprint
    longest_batch: tuple[int, int]
    """Rows and tokens a row of the largest micro-batch."""
    num_shards: int

    @property
    def batch_size(self) -> int:
        training = self.config.training
        return training.per_device_batch_size * training.gradient_accumulation_steps * self.num_processes

    @property
    def num_steps(self) -> int:
        return -(-self.rows // self.batch_size) * self.config.training.epochs


def plan_run(config: Config, num_processes: int, precision: str, num_shards: int = 1) -> Plan:
    """Return the plan of a run, its model in `num_shards` shards.

    Raises: EmotionError if local data, or the config of a backbone that is not the study's, cannot be read; ConfigError for the baseline.
    """
    if config.model.backbone == BASELINE:
        raise ConfigError(f"--dry-run: model.backbone={BASELINE} takes no steps that could be planned; it is fitted in seconds to minutes")
    texts: list[str] | None = None
    if config.data.source in KNOWN_DATA and not config.data.train:
        rows, num_labels = KNOWN_DATA[config.data.source]
        label_set = LabelSet(tuple(f"label {column}" for column in range(num_labels)))
        rows, row_source = round(rows * config.data.train_fraction), "its known size"
    else:
        dataset = read_dataset(config.data)
        label_set, texts = dataset.label_set, dataset["train"].texts
        rows, row_source = len(texts), "read"
    lengths, length_source = _measure_lengths(config, texts)
    longest = _find_longest_batch(config, lengths, num_processes)
    footprint = estimate_footprint(config.model, config.lora, label_set, precision, *longest).shard(num_shards)
    return Plan(config, num_processes, rows, row_source, lengths, length_source, precision, footprint, longest, num_shards)


def format_plan(plan: Plan) -> str:
    """Return the plan as text."""
    config, footprint, training = plan.config, plan.footprint, plan.config.training
    is_nf4 = config.model.quantization == "nf4"
    num_own = config.distillation.num_teachers
    batch_rows, batch_tokens = plan.longest_batch
    if plan.lengths is None:
        tokens = f"not known without the texts; {config.data.max_length} a text assumed for the memory"
    else:
        tokens = (
            f"{plan.lengths.mean():.1f} a text, at most {plan.lengths.max()}, {_padding_fraction(plan):.1%} padding ({plan.length_source})"
        )
    fraction = footprint.trained_parameters / footprint.parameters
    form = "full fine-tuning" if not config.lora.r else f"LoRA r={config.lora.r}" + (" on NF4" if is_nf4 else "")
    precision = (
        f"{plan.precision} (as this device would; training.precision=bf16 plans for a GPU)" if plan.precision == "fp32" else plan.precision
    )
    lines = {
        "backbone": f"{config.model.backbone}, {form}",
        "parameters": f"{footprint.parameters:,}, of which {footprint.trained_parameters:,} are trained ({fraction:.2%})",
        "data": f"{config.data.name}, {plan.rows:,} training rows ({plan.row_source})",
        "teachers": ", ".join(config.distillation.teachers or ())
        or (f"{num_own}, trained first; what follows is of each, and of the run itself" if num_own else ""),
        "tokens": tokens,
        "steps": f"{plan.num_steps:,} in {training.epochs} epochs, {plan.batch_size} rows each: {plan.num_processes} process(es) x "
        f"{training.gradient_accumulation_steps} micro-batch(es) x {training.per_device_batch_size}",
        "precision": precision,
        "memory": f"weights {_gib(footprint.weights)}, gradients {_gib(footprint.gradients)}, optimizer {_gib(footprint.optimizer)}, "
        f"activations {_gib(footprint.activations)} ({batch_rows} x {batch_tokens} tokens)",
        "": f"about {_gib(footprint.total)} on each device, and what the libraries take"
        + (f"; one of {plan.num_shards} shards, so a layer in one piece comes on top" if plan.num_shards > 1 else ""),
        "loading": f"{_gib(footprint.weights * plan.num_shards)}, all weights, "
        f"{'on each device' if is_nf4 else 'in main memory for each process'}, before they are cut into shards"
        if plan.num_shards > 1
        else "",
    }
    return "\n".join(f"{name:<11} {value}" for name, value in lines.items() if value)


def _measure_lengths(config: Config, texts: list[str] | None) -> tuple[np.ndarray | None, str]:
    if texts is None:
        return None, ""
    model, source = config.model, "counted"
    if config.model.backbone in ARCHITECTURES:  # its tokenizer would be a download
        model, source = ModelConfig(BUNDLED_NAME), "by the bundled tokenizer, the backbone's own being a download"
    tokenizer = load_tokenizer(locate_backbone(model), model.revision)
    return tokenize(tokenizer, texts, config.data.max_length).lengths, source


def _find_longest_batch(config: Config, lengths: np.ndarray | None, num_processes: int) -> tuple[int, int]:
    """Return rows and width of the micro-batch with the most positions in the first epoch."""
    training = config.training
    rows = training.per_device_batch_size
    if lengths is None:
        return rows, config.data.max_length
    sampler = LengthBucketSampler(lengths, rows * training.gradient_accumulation_steps * num_processes, training.seed)
    return rows, int(max(lengths[rows].max() for rows in sampler.lay_out(0)))


def _padding_fraction(plan: Plan) -> float:
    assert plan.lengths is not None
    batches = LengthBucketSampler(plan.lengths, plan.batch_size, plan.config.training.seed).lay_out(0)
    micro_batches = [part for rows in batches for part in np.array_split(rows, plan.config.training.gradient_accumulation_steps)]
    positions = sum(len(part) * int(plan.lengths[part].max()) for part in micro_batches if len(part))
    return 1 - int(plan.lengths.sum()) / positions


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
