"""A setting that is given takes effect or is refused: held for every setting."""

import re
from pathlib import Path

import pytest

from emotion.config import Config, describe_keys, load_config
from emotion.config.effects import NEEDS
from emotion.errors import ConfigError

ROOT = Path(__file__).parents[1]
KEYS = [key for key, _, _ in describe_keys()]
VALUES = {
    "data.corrected_splits": "train,validation",
    "data.long_texts": "segments",
    "data.stride": "8",
    "model.revision": "main",
    "model.double_quantization": "false",
    "model.attention": "eager",
    "training.learning_rate": "0.01",
    "training.warmup_ratio": "0.5",
    "training.weight_decay": "0.5",
    "training.precision": "fp32",
    "training.loss": "focal",
    "training.pos_weight": "auto",
    "training.select_by": "macro_f1_tuned",
    "training.head_learning_rate": "0.01",
    "lora.dropout": "0.5",
    "distillation.epochs": "9",
    "distillation.weight": "0.25",
}
"""A value that changes the default, where it is not a number plus 1, a string or `true`."""
UNMET = {"data": ["data.train=rows.csv"], "model": ["model.backbone=tfidf"], "training": ["model.backbone=tfidf"], "tracking": []}
MET = ["data.corrections=reviewed.csv", "data.long_texts=segments", "lora.r=8", "model.quantization=nf4"]
MET += ["data.source=someone/data", "model.backbone=someone/model", "training.pos_weight=auto", "distillation.num_teachers=1"]


def change(key):
    """Return an override that changes the default of a setting."""
    section, _, name = key.partition(".")
    default = getattr(getattr(Config(), section), name)
    if key in VALUES:
        return f"{key}={VALUES[key]}"
    if isinstance(default, bool):
        return f"{key}={str(not default).lower()}"
    return f"{key}={default + 1 if isinstance(default, int | float) else 'other'}"


def test_every_setting_is_known_here():
    assert len(KEYS) > 60 and set(NEEDS) <= set(KEYS) and len(NEEDS) > 25


def test_every_setting_is_read_outside_the_config():
    """A setting that nothing reads has no effect: its name must be an attribute somewhere in the code."""
    files = [path for path in (*ROOT.glob("*.py"), *(ROOT / "emotion").rglob("*.py")) if path.parent != ROOT / "emotion" / "config"]
    assert len(files) > 60
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    code += (ROOT / "emotion" / "config" / "settings.py").read_text(encoding="utf-8").partition("class Config:")[0]  # its properties
    unread = {key for key in KEYS if not re.search(rf"\.{key.partition('.')[2]}\b", code)}
    assert unread <= {"data.validation", "data.test"} and "getattr(config, split)" in code  # these two are read by their split's name


@pytest.mark.parametrize("key", sorted(NEEDS))
def test_a_setting_without_effect_is_refused_on_the_command_line(key):
    section = key.partition(".")[0]
    unmet = list(UNMET.get(section, []))
    if key == "data.long_texts":
        unmet = ["model.backbone=tfidf"]
    if key == "decision.shrinkage":
        unmet = ["decision.maximize=micro_f1"]
    if section == "tracking":
        unmet = ["tracking.backend=none"]
    if NEEDS[key][1](load_config(None, unmet)):
        unmet = []
    override = change(key)
    with pytest.raises(ConfigError) as caught:
        load_config(None, [*unmet, override])
    assert f"{override}: has no effect; it needs {NEEDS[key][0]}" in str(caught.value)


@pytest.mark.parametrize("name", ["bundled:all-MiniLM-L6-v2", "{folder}", "{folder}/model.gguf"])
def test_a_revision_of_a_backbone_that_is_not_on_the_hub_is_refused(name, tmp_path):
    for file in ("config.json", "model.gguf"):
        (tmp_path / file).touch()
    with pytest.raises(ConfigError, match=r"model\.revision=v2: has no effect; it needs model.backbone on the Hub"):
        load_config(None, [f"model.backbone={name.format(folder=tmp_path)}", "model.revision=v2"])


def test_a_project_needs_weights_and_biases():
    with pytest.raises(ConfigError, match=r"tracking\.project=mine: has no effect; it needs Weights & Biases"):
        load_config(None, ["tracking.backend=tensorboard", "tracking.project=mine"])


@pytest.mark.parametrize("key", sorted(NEEDS))
def test_a_setting_is_accepted_where_it_has_an_effect(key):
    met = [] if key in ("model.emoji_tokens", "training.loss") else MET  # which has adapters and weighs positives
    config = load_config(None, [*met, change(key)])
    section, _, name = key.partition(".")
    assert getattr(getattr(config, section), name) != getattr(getattr(Config(), section), name)


def test_a_file_may_hold_settings_without_effect(tmp_path):
    (tmp_path / "config.yaml").write_text("lora: {alpha: 64}\n")
    assert load_config(tmp_path / "config.yaml").lora.alpha == 64
    assert load_config(None, ["lora.alpha=16"]).lora.r == 0  # the default


def test_a_file_has_no_configurations_of_the_hub(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n")
    (tmp_path / "with" / "raw").mkdir(parents=True)
    for source in ("sample", tmp_path / "rows.csv", tmp_path / "with" / "raw", tmp_path / "*.csv"):
        with pytest.raises(
            ConfigError, match=r"data\.hub_config=raw: has no effect; it needs a data\.source on the Hub, or a folder with a"
        ):
            load_config(None, [f"data.source={source}", "data.hub_config=raw"])
    for source in ("someone/data", tmp_path / "with"):
        assert load_config(None, [f"data.source={source}", "data.hub_config=raw"]).data.hub_config == "raw"


def test_another_loss_has_no_effect_beside_teachers_of_other_configs():
    taught = ["distillation.num_teachers=1", "training.loss=focal"]
    with pytest.raises(ConfigError, match=r"training\.loss=focal: has no effect; it needs a transformer without .* or teacher_configs"):
        load_config(None, [*taught, "distillation.teacher_configs=configs/mpnet.yaml"])
    assert load_config(None, taught).training.loss == "focal"
