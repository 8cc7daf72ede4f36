"""Settings that have an effect only together with others: one that is given on the command line takes effect or is refused.

A YAML file may hold settings that have no effect, as the `config.yaml` of a run folder holds all of them.
"""

from collections.abc import Callable, Sequence

from emotion.config.settings import BASELINE, Config
from emotion.paths import expand_path, is_hub_id

Need = tuple[str, Callable[[Config], bool]]
"""What a setting needs, for the message, and a function that says whether a config has it."""

_ADAPTERS: Need = ("lora.r above 0", lambda config: config.lora.r > 0)
_TRANSFORMER: Need = (f"a transformer, not model.backbone={BASELINE}", lambda config: config.model.backbone != BASELINE)
_SOURCE: Need = ("data.train=null: with a training file, the source is not read", lambda config: config.data.train is None)
_TEACHERS: Need = ("distillation.teachers or distillation.num_teachers", lambda config: config.distillation.has_teachers)
_WANDB: Need = ("Weights & Biases: tracking.backend=wandb", lambda config: config.tracking.backend in ("auto", "wandb"))


def _is_on_hub(config: Config) -> bool:
    name = config.model.backbone
    return name != BASELINE and is_hub_id(name) and not name.lower().endswith(".gguf") and not expand_path(name).exists()


def _has_configurations(config: Config) -> bool:
    """Return whether the source can have several data sets, one of which `data.hub_config` names."""
    source, path = config.data.source, expand_path(config.data.source)
    if config.data.train is not None or source == "sample":
        return False
    if path.is_dir():
        return any(inner.is_dir() for inner in path.iterdir())
    return is_hub_id(source) and not path.exists()


def _has_other_teachers(config: Config) -> bool:
    """Return whether the run trains teachers with the settings of other configs; `auto` may train none."""
    return bool(config.distillation.teacher_configs) and config.distillation.num_teachers not in (0, "auto")


NEEDS: dict[str, Need] = {
    "data.source": _SOURCE,
    "data.hub_config": ("a data.source on the Hub, or a folder with a folder of this name", _has_configurations),
    "data.corrected_splits": ("data.corrections", lambda config: config.data.corrections is not None),
    "data.long_texts": _TRANSFORMER,
    "data.stride": ("data.long_texts=segments", lambda config: config.data.long_texts == "segments"),
    "model.revision": ("model.backbone on the Hub: a folder, a file and a bundled one have no revisions", _is_on_hub),
    "model.double_quantization": ("model.quantization=nf4", lambda config: config.model.quantization == "nf4"),
    "model.attention": _TRANSFORMER,
    "model.emoji_tokens": _TRANSFORMER,
    "model.gradient_checkpointing": _TRANSFORMER,
    "model.random_weights": _TRANSFORMER,
    "lora.alpha": _ADAPTERS,
    "lora.dropout": _ADAPTERS,
    "lora.target_modules": _ADAPTERS,
    "training.loss": (
        "a transformer without distillation.teachers or teacher_configs: students learn with binary cross-entropy",
        lambda config: config.model.backbone != BASELINE and not config.distillation.teachers and not _has_other_teachers(config),
    ),
    "training.pos_weight": (
        "a transformer with training.loss=bce: the other losses weigh labels themselves",
        lambda config: config.model.backbone != BASELINE and config.training.loss == "bce",
    ),
    "training.pos_weight_cap": ("training.pos_weight=auto", lambda config: config.training.pos_weight == "auto"),
    "distillation.epochs": _TEACHERS,
    "distillation.weight": _TEACHERS,
    "distillation.texts": (f"{_TEACHERS[0]}, which label the texts", _TEACHERS[1]),
    "distillation.teacher_configs": ("distillation.num_teachers above 0", lambda config: config.distillation.num_teachers != 0),
    "decision.shrinkage": ("decision.maximize=macro_f1", lambda config: config.decision.maximize == "macro_f1"),
    "tracking.project": _WANDB,
    "tracking.log_model": _WANDB,
    **{
        f"training.{name}": _TRANSFORMER
        for name in (
            "epochs",
            "gradient_accumulation_steps",
            "learning_rate",
            "head_learning_rate",
            "weight_decay",
            "warmup_ratio",
            "max_grad_norm",
            "precision",
            "validations_per_epoch",
            "select_by",
            "patience",
            "save_every_minutes",
            "save_every_steps",
            "num_states",
            "log_every",
        )
    },
}


def find_ineffective(config: Config, overrides: Sequence[str]) -> list[str]:
    """Return a problem for each `key=value` override that changes a default and has no effect beside the other settings."""
    problems, defaults = [], Config()
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in NEEDS and config.get(key) != defaults.get(key):
            needed, is_met = NEEDS[key]
            if not is_met(config):
                problems.append(f"{override}: has no effect; it needs {needed}")
    return problems
