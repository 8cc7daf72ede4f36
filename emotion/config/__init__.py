"""The settings of a run: frozen dataclasses, filled from a YAML file and `section.key=value` overrides.

`settings` defines every setting with its default; `loading` reads and converts values; `checks` has their bounds, and says what is wrong
with them.
"""

from emotion.config.checks import BOUNDS, check_repository
from emotion.config.loading import check_keys, describe_keys, format_keys, format_keys_table, load_config, load_teacher_configs, to_dict
from emotion.config.settings import (
    BASELINE,
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
    find_last_part,
)

__all__ = [
    "BASELINE",
    "BOUNDS",
    "INERT_SECTIONS",
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
    "check_keys",
    "check_repository",
    "describe_keys",
    "find_last_part",
    "format_keys",
    "format_keys_table",
    "load_config",
    "load_teacher_configs",
    "to_dict",
]
