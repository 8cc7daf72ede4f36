"""Every setting, its default, its meaning and its bounds: their one home, read by people and by `train.py --keys`."""

from dataclasses import dataclass, field
from typing import Any, Literal

INERT_SECTIONS = ("run", "tracking", "hub")
"""Sections of a config that have no say in what comes out of training."""
BASELINE = "tfidf"
"""The `model.backbone` that is no transformer."""


@dataclass(frozen=True)
class DataConfig:
    source: str = "sample"
    """`sample` (bundled), a file, a folder of split files, or the id of a data set on the Hub."""
    hub_config: str | None = None
    """Configuration name of a Hub data set, such as `simplified`."""
    train: str | None = None
    """Training file, in place of `source`."""
    validation: str | None = None
    """Validation file; without one it is split off the training rows."""
    test: str | None = None
    """Test file."""
    text_column: str | None = None
    """Column of the text (name, or position from 0 in a file without header); guessed if left out."""
    label_column: str | None = None
    """Column of the labels: delimited names or ids, or a list; guessed if left out."""
    label_columns: tuple[str, ...] | None = None
    """Columns that hold 0 or 1, one a label; guessed if left out."""
    label_delimiter: str | None = None
    """What stands between labels in `label_column`; guessed among `|`, `;`, `,` and space."""
    label_names: tuple[str, ...] | None = None
    """Names of the labels in column order; else from `labels.txt` or `emotions.txt` beside the data, or from the training rows."""
    id_column: str | None = None
    """Column of row ids; guessed if left out, otherwise the line number."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """`stop` names the bad rows and exits; `skip` writes them to `quarantine.tsv` in the run folder and goes on."""
    validation_fraction: float = 0.1
    """Share of rows split off for validation where there is no validation file, in (0, .5]."""
    test_fraction: float = 0.1
    """Share of rows split off for test when `source` is one file, in [0, .5]."""
    split_seed: int = 0
    """Seed of those splits; the split does not depend on `training.seed`."""
    train_fraction: float = 1.0
    """Share of the training rows that is used, in (0, 1], stratified by label."""
    max_length: int = 128
    """Tokens kept of a text, special tokens included."""

    @property
    def named_columns(self) -> set[str]:
        """The columns that are named here, not to be guessed."""
        return {column for column in (self.text_column, self.label_column, self.id_column, *(self.label_columns or ())) if column}

    @property
    def name(self) -> str:
        """Where the training rows come from, in a word."""
        return self.train or self.source


@dataclass(frozen=True)
class ModelConfig:
    backbone: str = "bundled:all-MiniLM-L6-v2"
    """Hub id, local folder, `bundled:all-MiniLM-L6-v2` (22M parameters, from an installed package), or `tfidf`, the baseline."""
    revision: str | None = None
    """Branch, tag or commit of a Hub id."""
    quantization: Literal["none", "nf4"] = "none"
    """`nf4` holds the backbone's linear layers in 4 bits (QLoRA); they are frozen then, so it needs `lora.r`."""
    double_quantization: bool = True
    """Whether `nf4` quantises its scales too: 4.13 bits a weight in place of 4.5."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """Attention kernel; `auto` is flash attention where it is installed and a GPU is there in bf16 or fp16, otherwise sdpa."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass: about a third more time for much less memory."""
    random_weights: bool = False
    """Start from random weights of the backbone's architecture: for measuring speed and memory without the weights."""


@dataclass(frozen=True)
class LoraConfig:
    r: int = 0
    """Rank of the adapters; 0 trains all weights instead."""
    alpha: float = 16.0
    """Scale of the adapters: their product is multiplied by `alpha / r`."""
    dropout: float = 0.05
    """Dropout before the adapters, in [0, 1)."""
    target_modules: tuple[str, ...] | None = None
    """Names of the layers that get adapters, such as `q_proj`; all linear layers of the backbone if left out."""


@dataclass(frozen=True)
class TrainingConfig:
    epochs: int = 4
    """Passes over the training rows."""
    per_device_batch_size: int = 32
    """Most rows of a micro-batch on one device."""
    gradient_accumulation_steps: int = 1
    """Micro-batches of one optimizer step on one device."""
    learning_rate: float = 2e-4
    """Peak learning rate of the backbone."""
    head_learning_rate: float | None = None
    """Peak learning rate of the head; `learning_rate` if left out."""
    weight_decay: float = 0.01
    """AdamW's decay; biases and norms are exempt."""
    warmup_ratio: float = 0.06
    """Share of optimizer steps spent warming up, in [0, 1)."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 turns clipping off."""
    pos_weight: Literal["none", "auto"] = "none"
    """`auto` weighs positives of a label by negatives / positives, at most `pos_weight_cap`."""
    pos_weight_cap: float = 10.0
    """Upper bound of `pos_weight: auto`, at least 1."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is bf16 on a GPU that has it, fp32 elsewhere."""
    validations_per_epoch: int = 1
    """How often the validation split is scored in an epoch."""
    select_by: Literal["macro_average_precision", "macro_f1_tuned"] = "macro_average_precision"
    """Validation score that chooses the best checkpoint."""
    patience: int = 0
    """Validations without a better score after which training stops; 0 never stops early."""
    save_every_minutes: float = 10.0
    """Minutes between resumable states; 0 saves none by time. Ctrl-C and SIGTERM always save one."""
    save_every_steps: int = 0
    """Optimizer steps between resumable states; 0 saves none by steps."""
    num_states: int = 2
    """Newest resumable states that are kept."""
    timeout_minutes: float = 10.0
    """Minutes that a process waits for the others before it gives the run up; it can be resumed then."""
    log_every: int = 20
    """Optimizer steps between rows of `metrics.jsonl`."""
    seed: int = 0
    """Seed of head, order and dropout."""


@dataclass(frozen=True)
class DistillationConfig:
    teachers: tuple[str, ...] | None = None
    """Trained models (run folders, model folders, Hub ids) whose mean probabilities stand beside the gold labels in the loss."""
    num_teachers: int = 0
    """Teachers that the run trains for itself first, by its own settings from other seeds, in place of `teachers`; 0 trains none."""
    weight: float = 0.5
    """Share of the teachers' probabilities in the targets, in (0, 1]; the gold labels have the rest."""


@dataclass(frozen=True)
class DecisionConfig:
    maximize: Literal["macro_f1", "micro_f1"] = "macro_f1"
    """`macro_f1` gives each label its threshold, rare ones counting as much as common ones; `micro_f1` gives all the same one."""
    shrinkage: float = 50.0
    """A label's own threshold weighs `n / (n + shrinkage)`, n its positives; the rest is that of best expected F1. 0 trusts its own."""
    fit_temperature: bool = True
    """Whether the logits are divided by a temperature fitted on validation (and the saved head with them)."""
    empty_set: Literal["none", "top1"] = "none"
    """What a text gets whose labels all stay below their thresholds: nothing, or the likeliest label."""


@dataclass(frozen=True)
class TrackingConfig:
    backend: Literal["auto", "none", "wandb", "tensorboard"] = "auto"
    """Experiment tracker; `auto` is Weights & Biases: online where a key is there, otherwise offline, in the run folder."""
    project: str = "emotion"
    """Project of the tracker."""
    log_model: bool = False
    """Whether the model folder goes to Weights & Biases too, as an artifact."""


@dataclass(frozen=True)
class HubConfig:
    push: bool = False
    """Whether the model goes to the Hub when training is done; `evaluate.py --push` does the same later."""
    repo: str | None = None
    """Repository on the Hub, `USER/NAME`."""
    private: bool = True
    """Whether a repository that is made is private."""


@dataclass(frozen=True)
class RunConfig:
    folder: str = "runs"
    """Folder of all runs."""
    name: str | None = None
    """Folder of this run below it; the config's name and the time if left out."""


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    run: RunConfig = field(default_factory=RunConfig)


BOUNDS: dict[str, tuple[str, Any]] = {
    "data.validation_fraction": ("in (0, .5]", lambda x: 0 < x <= 0.5),
    "data.test_fraction": ("in [0, .5]", lambda x: 0 <= x <= 0.5),
    "data.train_fraction": ("in (0, 1]", lambda x: 0 < x <= 1),
    "data.max_length": ("at least 4", lambda x: x >= 4),
    "lora.r": ("at least 0", lambda x: x >= 0),
    "lora.alpha": ("above 0", lambda x: x > 0),
    "lora.dropout": ("in [0, 1)", lambda x: 0 <= x < 1),
    "training.epochs": ("at least 1", lambda x: x >= 1),
    "training.per_device_batch_size": ("at least 1", lambda x: x >= 1),
    "training.gradient_accumulation_steps": ("at least 1", lambda x: x >= 1),
    "training.learning_rate": ("in (0, 1)", lambda x: 0 < x < 1),
    "training.head_learning_rate": ("in (0, 1)", lambda x: x is None or 0 < x < 1),
    "training.weight_decay": ("in [0, 1)", lambda x: 0 <= x < 1),
    "training.warmup_ratio": ("in [0, 1)", lambda x: 0 <= x < 1),
    "training.max_grad_norm": ("at least 0", lambda x: x >= 0),
    "training.pos_weight_cap": ("at least 1", lambda x: x >= 1),
    "training.validations_per_epoch": ("at least 1", lambda x: x >= 1),
    "training.patience": ("at least 0", lambda x: x >= 0),
    "training.save_every_minutes": ("at least 0", lambda x: x >= 0),
    "training.save_every_steps": ("at least 0", lambda x: x >= 0),
    "training.num_states": ("at least 1", lambda x: x >= 1),
    "training.timeout_minutes": ("above 0", lambda x: x > 0),
    "training.log_every": ("at least 1", lambda x: x >= 1),
    "training.seed": ("in [0, 2**32)", lambda x: 0 <= x < 2**32),
    "data.split_seed": ("in [0, 2**32)", lambda x: 0 <= x < 2**32),
    "distillation.num_teachers": ("at least 0", lambda x: x >= 0),
    "distillation.weight": ("in (0, 1]", lambda x: 0 < x <= 1),
    "decision.shrinkage": ("at least 0", lambda x: x >= 0),
}
