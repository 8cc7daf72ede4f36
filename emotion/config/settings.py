"""Every setting with its default and description, defined here only. `train.py --keys` prints them. The bounds are in `checks`."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

INERT_SECTIONS = ("run", "tracking", "hub")
"""Sections of a config that do not affect the trained model."""
BASELINE = "tfidf"
"""The value of `model.backbone` that selects the TF-IDF baseline instead of a transformer."""
AUTO_EPOCH_ROWS, MIN_AUTO_EPOCHS, MAX_AUTO_EPOCHS = 10_400, 3, 20
"""Rows that `training.epochs=auto` reads, epoch by epoch, and its bounds: 8 epochs of the bundled corpus, 325 steps of 32 rows. With 160
rows, 20 epochs end at a training loss of 0.01, so more would change little; with the 43,410 of GoEmotions, 3 are those of minilm.yaml."""
STUDENT_EPOCHS = 4
"""How many times as many rows `training.epochs=auto` gives a student to read, and how many times as many epochs at most: with few rows it
needs more steps, and soft labels are not learned by heart as gold labels are. With 14,000 rows, 3 epochs are enough for both."""
AUTO_TEACHER_ROWS, NUM_AUTO_TEACHERS = 300, 3
"""Training rows from which `distillation.num_teachers=auto` trains teachers, and how many."""


def find_last_part(path: str) -> str:
    """Return the name of a file or folder without the folders that it is in; `local files` for a path such as `.` or `~`."""
    name = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return name if name.strip("~.") else "local files"


@dataclass(frozen=True)
class DataConfig:
    source: str = "sample"
    """`sample` (the bundled corpus), a file, a pattern, a folder with files of each split, or the id of a dataset on the Hub."""
    hub_config: str | None = None
    """Configuration name of a Hub dataset, for example `simplified`."""
    train: str | None = None
    """Training file, or several: a pattern such as `train-*.parquet`, or names separated by commas; if set, `source` is not used."""
    validation: str | None = None
    """Validation file; if null, the validation split of `source`, or rows split off the training rows."""
    test: str | None = None
    """Test file; if null, the test split of `source`, or rows split off if `source` is a single file."""
    text_column: str | None = None
    """Column of the text: its name, its position from 0 if there is no header, or a path such as `post.text` in JSON; detected if null."""
    label_column: str | None = None
    """Column of the labels, which holds delimited names or ids, or a list; detected if null."""
    label_columns: tuple[str, ...] | None = None
    """Columns that hold 0 or 1 (also true/false, yes/no), one column per label; detected if null."""
    label_delimiter: str | None = None
    """Separator between the labels in `label_column`, any text; `none` if a cell is one name; detected if null."""
    label_names: tuple[str, ...] | None = None
    """Label names in the order of their ids; if null, from `labels.txt` or `emotions.txt` beside the data, or from the training rows."""
    first_label_id: Literal[0, 1] | None = None
    """Id of the first of `label_names` where labels are ids; detected if null."""
    intensity_threshold: float | None = None
    """Lowest value with which a text has a label, where labels are intensities (0 to 3) or fractions; if null, only 0 and 1 are read."""
    soft_labels: bool = False
    """Train on the fraction of raters who gave each label: counted from rows of several raters, or the values in [0, 1] of the labels."""
    rater_column: str | None = None
    """Column of the person who labelled the row; the rows of one text are merged. Detected by names such as `rater_id` if null."""
    id_column: str | None = None
    """Column of the row ids; detected if null, and the line number is the id if there is no such column."""
    encoding: str | None = None
    """Encoding of a text file, such as `cp1252` or `utf-16`; UTF-8 if null, but UTF-16 and cp1252 (Western European) are detected."""
    separator: str | None = None
    """Character between the cells of a csv, tsv or txt file, or `tab`; detected among `,`, `;`, tab and `|` if null."""
    escape: str | None = None
    r"""Character before a quote within a quoted csv cell, or `none`; if null, `\` is detected, as Spark writes it."""
    quoting: bool | None = None
    """Whether a `"` at the beginning of a csv cell encloses the cell; if null, as in RFC 4180 unless the file shows that it does not."""
    has_header: bool | None = None
    """Whether the first row of a csv, tsv, txt or Excel file names the columns; detected if null."""
    sheet: str | None = None
    """Sheet of an Excel file; the first one that is not empty if null."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """`stop` lists the rows that cannot be read and exits; `skip` writes them to `quarantine.tsv` in the run folder and continues."""
    max_line_length: int = 10_000_000
    """Maximum number of characters of a line, and of a csv row with quoted line breaks; a longer one is a bad row."""
    validation_fraction: float = 0.1
    """Fraction of the rows to split off for validation if there is no validation split, in (0, 0.5]."""
    test_fraction: float = 0.1
    """Fraction of the rows to split off for test if `source` is a single file, in [0, 0.5]."""
    split_seed: int = 0
    """Random seed of these splits; `training.seed` does not affect them."""
    train_fraction: float = 1.0
    """Fraction of the training rows to use, stratified by label, in (0, 1]."""
    corrections: str | None = None
    """File of decisions on the labels of rows, which `audit.py` writes and a person fills in; decisions on training rows are applied."""
    corrected_splits: tuple[str, ...] = ("train",)
    """Splits whose rows `corrections` may change: `train`, `validation`, `test`; decisions on other rows are left out, and counted."""
    max_length: int = 128
    """Maximum number of tokens of a sequence, including special tokens; `long_texts` says what happens to longer texts."""
    long_texts: Literal["cut", "segments"] = "cut"
    """Predict a longer text from its first `max_length` tokens, or from overlapping segments of it; training always cuts."""
    stride: int | None = None
    """Tokens that a segment shares with the one before it; a quarter of `max_length` if null."""

    @property
    def segment_stride(self) -> int | None:
        """The tokens that neighboring segments of a text share; None if long texts are cut."""
        if self.long_texts == "cut":
            return None
        return self.max_length // 4 if self.stride is None else self.stride

    @property
    def named_columns(self) -> set[str]:
        """The columns that the config names, which therefore are not detected."""
        return {
            column
            for column in (self.text_column, self.label_column, self.id_column, self.rater_column, *(self.label_columns or ()))
            if column
        }

    @property
    def name(self) -> str:
        """The training file if there is one, otherwise `source`."""
        return self.train or self.source

    @property
    def title(self) -> str:
        """What reports and cards call the data: the id of a dataset on the Hub, or the names of files without their folders."""
        parts = [part.strip(" ") for part in self.name.split(",")]
        is_hub_id = re.fullmatch(r"[^./~\\][^/\\]*/[^/\\]+", self.name) and self.train is None and not Path(self.name).exists()
        return self.name if is_hub_id else ", ".join(find_last_part(part) for part in parts)


@dataclass(frozen=True)
class ModelConfig:
    backbone: str = "bundled:all-MiniLM-L6-v2"
    """Hub id, folder, GGUF file, `bundled:NAME` (all-MiniLM-L6-v2, all-mpnet-base-v2, gemma-3-270m), or `tfidf` (the baseline)."""
    revision: str | None = None
    """Branch, tag or commit of a backbone on the Hub."""
    quantization: Literal["none", "nf4"] = "none"
    """`nf4` stores the backbone's linear layers in 4 bits (QLoRA); these layers are frozen, so `lora.r` must be above 0."""
    double_quantization: bool = True
    """Quantize the scales of `nf4` as well: 4.13 instead of 4.5 bits per weight."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """Attention kernel; `auto` selects FlashAttention-2 for LoRA in bf16 or fp16 on a GPU if it is installed, otherwise sdpa."""
    emoji_tokens: bool = False
    """Give each emoji that the tokenizer does not know a token and an embedding; without adapters only (`lora.r=0`)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third slower, with much less memory."""
    random_weights: bool = False
    """Initialize the backbone with random weights: to measure speed and memory without the pretrained weights."""


@dataclass(frozen=True)
class LoraConfig:
    r: int = 0
    """Rank of the LoRA adapters; 0 trains all weights without adapters."""
    alpha: float = 16.0
    """LoRA scaling: the adapters' output is multiplied by `alpha / r`."""
    dropout: float = 0.05
    """Dropout probability on the adapters' input, in [0, 1)."""
    target_modules: tuple[str, ...] | None = None
    """Names of the layers that get adapters, for example `q_proj`; if null, all linear layers of the backbone."""


@dataclass(frozen=True)
class TrainingConfig:
    epochs: int | Literal["auto"] = 4
    """Number of passes over the training rows; `auto` reads 10,400 rows in 3 to 20 passes, a student 41,600 rows in 3 to 80."""
    per_device_batch_size: int = 32
    """Maximum number of rows of a micro-batch on one device."""
    gradient_accumulation_steps: int = 1
    """Number of micro-batches per optimizer step on one device."""
    learning_rate: float = 2e-4
    """Peak learning rate of the backbone."""
    head_learning_rate: float | None = None
    """Peak learning rate of the classification head; `learning_rate` if null."""
    weight_decay: float = 0.01
    """Weight decay of AdamW, in [0, 1); biases and normalization layers are not decayed."""
    warmup_ratio: float = 0.06
    """Fraction of the optimizer steps for the linear warmup of the learning rate, in [0, 1)."""
    max_grad_norm: float = 1.0
    """Maximum gradient norm for clipping; 0 disables clipping."""
    loss: Literal["bce", "focal", "distribution_balanced"] = "bce"
    """`bce` is binary cross-entropy, with which students learn; in `focal` sure answers count less; the last also balances labels."""
    pos_weight: Literal["none", "auto"] = "none"
    """`auto` multiplies the loss of a label's positives by negatives / positives, at least 1 and at most `pos_weight_cap`."""
    pos_weight_cap: float = 10.0
    """Upper limit of the weights that `pos_weight=auto` computes, at least 1."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the computation; `auto` is bf16 on a GPU that supports it, otherwise fp32."""
    validations_per_epoch: int = 1
    """Number of validations per epoch."""
    select_by: Literal["macro_average_precision", "macro_f1_tuned"] = "macro_average_precision"
    """Validation metric that selects the best checkpoint; `macro_f1_tuned` is macro-F1 at the fitted thresholds."""
    patience: int = 0
    """Stop after this many validations without a better score; 0 disables early stopping."""
    save_every_minutes: float = 10.0
    """Minutes between saved training states; 0 disables saving by time. Ctrl-C, SIGTERM and SIGHUP always save a state."""
    save_every_steps: int = 0
    """Optimizer steps between saved training states; 0 disables saving by steps."""
    num_states: int = 2
    """Number of saved training states to keep; older ones are deleted."""
    timeout_minutes: float = 10.0
    """Minutes that a process waits for the other processes before the run stops; `--resume` continues it."""
    log_every: int = 20
    """Optimizer steps between rows of `metrics.jsonl`."""
    seed: int = 0
    """Random seed of head initialization, row order and dropout."""

    @property
    def num_epochs(self) -> int:
        """The number of epochs, after `resolve_epochs`."""
        assert isinstance(self.epochs, int)
        return self.epochs

    def resolve_epochs(self, num_rows: int, is_student: bool) -> "TrainingConfig":
        """Return the settings with a number in place of `epochs=auto`, for a model that learns gold labels, or for a student.

        It depends on the rows alone: a resumed run gets the same one.
        """
        if self.epochs != "auto":
            return self
        factor = STUDENT_EPOCHS if is_student else 1
        return replace(self, epochs=min(max(round(factor * AUTO_EPOCH_ROWS / num_rows), MIN_AUTO_EPOCHS), factor * MAX_AUTO_EPOCHS))


@dataclass(frozen=True)
class DistillationConfig:
    teachers: tuple[str, ...] | None = None
    """Trained models (run folders, model folders or Hub ids) whose mean probabilities are mixed into the training targets."""
    num_teachers: int | Literal["auto"] = 0
    """Number of teachers that the run trains first, with its own settings and other seeds; `auto` is 3 with 300 rows or `texts`."""
    teacher_configs: tuple[str, ...] | None = None
    """Config files whose `model`, `lora` and `training` the teachers get instead of the run's own: `num_teachers` of each file."""
    weight: float = 0.5
    """Weight of the teachers' probabilities in the training targets, in (0, 1]; the gold labels have the weight 1 - `weight`."""
    epochs: int | None = None
    """Number of passes of the student over the training rows; `training.epochs` is then that of its teachers. Null: the same for both."""
    texts: str | None = None
    """File of texts without labels, or several (a pattern, or names between commas), which the teachers label for their student."""

    @property
    def has_teachers(self) -> bool:
        """Whether the run has teachers, or `auto` may give it some."""
        return bool(self.teachers or self.num_teachers)

    def resolve_num_teachers(self, num_rows: int) -> "DistillationConfig":
        """Return the settings with a number in place of `num_teachers=auto`, by the number of training rows."""
        if self.num_teachers != "auto":
            return self
        return replace(self, num_teachers=NUM_AUTO_TEACHERS if num_rows >= AUTO_TEACHER_ROWS or self.texts else 0)

    def resolve_training(self, training: TrainingConfig) -> TrainingConfig:
        """Return the training settings of a student: its own number of epochs, and binary cross-entropy.

        The optimum of cross-entropy are the teachers' probabilities: a student becomes as sure as they are.
        """
        return replace(training, loss="bce", epochs=training.epochs if self.epochs is None else self.epochs)


@dataclass(frozen=True)
class DecisionConfig:
    maximize: Literal["macro_f1", "micro_f1", "jaccard", "subset_accuracy"] = "macro_f1"
    """Metric that the thresholds maximize: `macro_f1` fits one threshold per label, the others one threshold for all labels."""
    shrinkage: float = 50.0
    """Moves thresholds of rare labels to the best expected F1: the best-F1 threshold of n positives has weight `n / (n + shrinkage)`."""
    fit_temperature: bool = True
    """Calibrate the logits by a scale and a shift of each label, fitted on validation; the saved head includes them."""
    empty_set: Literal["none", "top1"] = "none"
    """Prediction for a text with no label at or above its threshold: `none` predicts no label, `top1` the most probable one."""


@dataclass(frozen=True)
class TrackingConfig:
    backend: Literal["auto", "none", "wandb", "tensorboard"] = "auto"
    """Experiment tracker; `auto` is Weights & Biases if installed: online with an API key, otherwise offline in the run folder."""
    project: str | None = None
    """Project name in Weights & Biases; if null, that of the environment variable `WANDB_PROJECT`, or `emotion`."""
    log_model: bool = False
    """Upload the model folder to Weights & Biases as an artifact."""


@dataclass(frozen=True)
class HubConfig:
    push: bool = False
    """Upload the model to the Hub after training; `export.py --push` does the same later."""
    repo: str | None = None
    """Repository on the Hub, `USER/NAME`."""
    private: bool = True
    """Make the repository private if it has to be created."""
    license: str | None = None
    """License of the model, as its card says, such as `mit`; if null, that of the backbone if it is known."""
    language: tuple[str, ...] | None = None
    """Languages of the texts in the model card, such as `[en]`; if null, those of a known dataset."""
    dataset: str | None = None
    """What the model card calls the data, such as its id on the Hub; if null, the id or the file name in `data`."""


@dataclass(frozen=True)
class RunConfig:
    folder: str = "runs"
    """Folder that contains all runs."""
    name: str | None = None
    """Name of this run's folder inside `folder`; if null, the name of the config and the time."""
    quote_texts: bool = True
    """Quote the texts of the worst mistakes in the reports of this run; `false` if the texts must stay where they are."""


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

    def get(self, key: str) -> Any:
        """Return the value of a setting, given as `section.key`."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)
