"""What a config of right types may still have wrong: each function returns a problem, as a text, for each fault that it finds."""

import dataclasses
import itertools
import math
import re
from typing import Any

from emotion.config.settings import BASELINE, Config
from emotion.errors import ConfigError
from emotion.paths import find_model_fault
from emotion.secrets import mask_secrets
from emotion.text import is_writable_text

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
"""The name of a repository on the Hub: its owner and its own name."""
BOUNDS: dict[str, tuple[str, Any]] = {
    "data.encoding": ("an encoding that Python has, such as utf-8, utf-16 or cp1252", lambda x: x is None or _is_encoding(x)),
    "data.separator": ("one character, or tab", lambda x: x in (None, "tab", "\\t") or (len(x) == 1 and x not in '"\r\n')),
    "data.escape": ("one character, or none", lambda x: x in (None, "none") or (len(x) == 1 and x not in '"\r\n')),
    "data.max_line_length": ("in [1, 2**31)", lambda x: 1 <= x < 2**31),
    "data.intensity_threshold": ("above 0", lambda x: x is None or x > 0),
    "data.validation_fraction": ("in (0, 0.5]", lambda x: 0 < x <= 0.5),
    "data.test_fraction": ("in [0, 0.5]", lambda x: 0 <= x <= 0.5),
    "data.train_fraction": ("in (0, 1]", lambda x: 0 < x <= 1),
    "data.split_seed": ("in [0, 2**32)", lambda x: 0 <= x < 2**32),
    "data.corrected_splits": (
        "one or more of train, validation and test",
        lambda x: len(x) > 0 and set(x) <= {"train", "validation", "test"},
    ),
    "data.max_length": ("at least 4", lambda x: x >= 4),
    "data.stride": ("at least 0", lambda x: x is None or x >= 0),
    "lora.r": ("at least 0", lambda x: x >= 0),
    "lora.alpha": ("above 0, and finite", lambda x: 0 < x < math.inf),
    "lora.dropout": ("in [0, 1)", lambda x: 0 <= x < 1),
    "training.epochs": ("at least 1, or auto", lambda x: x == "auto" or x >= 1),
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
    "training.timeout_minutes": ("above 0, at most 525600 (a year)", lambda x: 0 < x <= 525_600),
    "training.log_every": ("at least 1", lambda x: x >= 1),
    "training.seed": ("in [0, 2**32)", lambda x: 0 <= x < 2**32),
    "distillation.num_teachers": ("at least 0, or auto", lambda x: x == "auto" or x >= 0),
    "distillation.epochs": ("at least 1, or null", lambda x: x is None or x >= 1),
    "distillation.weight": ("in (0, 1]", lambda x: 0 < x <= 1),
    "decision.shrinkage": ("at least 0", lambda x: x >= 0),
    "run.name": (
        "the name of one folder, without / and \\; run.folder=FOLDER says where it is",
        lambda x: x is None or not ({"/", "\\"} & set(x) or x in (".", "..")),
    ),
}
"""Allowed values of settings: their description in error messages, and a function that tests a value."""


def find_secrets(config: Config) -> list[str]:
    """Return a problem for each value that looks like a secret: the config is written to the run folder and sent to trackers."""
    return [
        f"{key}: looks like a token or password, and settings are written to files; set HF_TOKEN or WANDB_API_KEY instead"
        for key, text in _list_texts(config)
        if mask_secrets(f"{key}={text}") != f"{key}={text}"
    ]


def find_unwritable(config: Config) -> list[str]:
    """Return a problem for each value that no file can hold, such as a name that is not UTF-8: saving the model would fail."""
    return [
        f"{key}={text!r}: must be valid UTF-8, without a NUL character"
        for key, text in _list_texts(config)
        if "\0" in text or not is_writable_text(text)
    ]


def check_repository(option: str, name: str) -> None:
    """Raise a ConfigError unless `name` is USER/NAME; the Hub would guess the owner."""
    if problems := find_repository_fault(f"{option} {name}", name):
        raise ConfigError(problems[0])


def find_repository_fault(given: str, name: str | None) -> list[str]:
    """Return a problem unless the name of a repository, if there is one, is USER/NAME; `given` says where it was read."""
    is_allowed = name is None or REPOSITORY.fullmatch(name)
    return [] if is_allowed else [f"{given}: must be USER/NAME, with the user or organization that owns the repository"]


def _list_texts(config: Config) -> list[tuple[str, str]]:
    """Return (key, text) of each setting that is a string or a list of strings."""
    settings = [(f"{section}.{key}", value) for section, values in dataclasses.asdict(config).items() for key, value in values.items()]
    return [(key, value if isinstance(value, str) else ",".join(value)) for key, value in settings if isinstance(value, str | tuple)]


def check_backbone(config: Config) -> list[str]:
    """Return a problem if the backbone is not where its name says: now, and not after the data is read or the Hub was asked."""
    name = config.model.backbone
    fault = None if name == BASELINE or name.startswith("bundled:") else find_model_fault(name)
    return [] if fault is None else [f"model.backbone={name!r}: {fault}"]


def check_columns(config: Config) -> list[str]:
    """Return a problem for each column that is named for two things: a model would learn the labels from the labels."""
    data = config.data
    roles = {"text_column": [data.text_column], "label_column": [data.label_column]}
    roles |= {"label_columns": [*(data.label_columns or ())], "rater_column": [data.rater_column]}
    return [
        f"data.{one} and data.{other} both name the column {column!r}; leave one of them out"
        for one, other in itertools.combinations(roles, 2)
        for column in roles[one]
        if column is not None and column in roles[other]
    ]


def check_bounds(config: Config) -> list[str]:
    """Return a problem for each value out of its bounds."""
    values = {key: config.get(key) for key in BOUNDS}
    return [f"{key}={values[key]!r}: must be {bound}" for key, (bound, is_allowed) in BOUNDS.items() if not is_allowed(values[key])]


def check_combinations(config: Config) -> list[str]:
    """Return a problem for each combination of settings that cannot work."""
    problems = []
    is_baseline = config.model.backbone == BASELINE
    if config.model.quantization != "none" and config.lora.r == 0:
        problems.append("model.quantization=nf4 with lora.r=0: 4-bit weights cannot be trained; set lora.r=16 or model.quantization=none")
    if config.model.emoji_tokens and config.lora.r > 0:
        remedy = "set model.emoji_tokens=false or lora.r=0"
        problems.append(f"model.emoji_tokens=true with lora.r={config.lora.r}: adapters hold no new embeddings; {remedy}")
    if config.hub.push and not config.hub.repo:
        problems.append("hub.push=true without hub.repo: set hub.repo=USER/NAME")
    if is_baseline and config.lora.r > 0:
        problems.append(f"model.backbone={BASELINE} with lora.r={config.lora.r}: the baseline has no layers to adapt; set lora.r=0")
    if config.distillation.teachers and config.distillation.num_teachers:
        problems.append("distillation.teachers with distillation.num_teachers: set only one of them, the other to null or 0")
    if is_baseline and config.distillation.has_teachers:
        remedy = "set distillation.teachers=null and distillation.num_teachers=0"
        problems.append(f"model.backbone={BASELINE} with distillation: the baseline learns from gold labels only; {remedy}")
    return problems


def _is_encoding(name: str) -> bool:
    try:
        b"a".decode(name, "ignore")
    except (LookupError, ValueError):
        return False
    return True
