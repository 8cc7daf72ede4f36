"""Frozen dataclasses <- YAML <- `key=value`: `settings` is the home of every default, `loading` fills it and names all faults together."""

from emotion.config.loading import TOKEN, describe_keys, format_keys, load_config, to_dict
from emotion.config.settings import (
    BASELINE,
    BOUNDS,
    INERT_SECTIONS,
    Config,
    DataConfig,
    DecisionConfig,
    DistillationConfig,
    HubConfig,
    LoraConfig,
    ModelConfig,
    RunConfig,
    TrackingConfig,
    TrainingConfig,
)

__all__ = [
    "BASELINE",
    "BOUNDS",
    "INERT_SECTIONS",
    "TOKEN",
    "Config",
    "DataConfig",
    "DecisionConfig",
    "DistillationConfig",
    "HubConfig",
    "LoraConfig",
    "ModelConfig",
    "RunConfig",
    "TrackingConfig",
    "TrainingConfig",
    "describe_keys",
    "format_keys",
    "load_config",
    "to_dict",
]
