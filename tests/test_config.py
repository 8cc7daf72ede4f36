import dataclasses
from pathlib import Path

import pytest
import yaml

from emotion.config import BOUNDS, Config, describe_keys, load_config, to_dict
from emotion.errors import ConfigError

ROOT = Path(__file__).parents[1]
PATHS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "accelerate")


def test_every_config_is_found():
    names = {str(path.relative_to(ROOT / "configs").with_suffix("")) for path in PATHS}
    study = {"distilbert", "gemma_lora", "mistral_lora", "mistral_qlora"}
    assert names >= {"quickstart", "minilm", "tfidf"} | study | {f"semeval/{name}" for name in study}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_published_config_loads(path):
    written = yaml.safe_load(path.read_text())
    loaded = to_dict(load_config(path))
    for section, values in written.items():
        for key, value in values.items():
            assert loaded[section][key] == value


def test_override_wins_over_file_and_is_typed():
    config = load_config(ROOT / "configs" / "quickstart.yaml", ["training.learning_rate=5e-5", "data.source=2024", "data.label_names=a,b"])
    assert config.training.learning_rate == 5e-5
    assert config.data.source == "2024"
    assert config.data.label_names == ("a", "b")
    assert config.training.epochs == load_config(ROOT / "configs" / "quickstart.yaml").training.epochs


def test_scientific_notation_of_yaml_is_a_number(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training:\n  learning_rate: 3e-4\n")  # PyYAML reads a text
    assert load_config(path).training.learning_rate == 3e-4


def test_all_faults_are_reported_together_with_the_nearest_names():
    overrides = ["trainin.epochs=3", "training.epoch=3", "training.seed=a", "training.precision=int8", "lr"]
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    message = str(caught.value)
    for part in (
        "unknown key trainin, did you mean training?",
        "unknown key training.epoch, did you mean training.epochs?",
        "training.seed='a': must be a whole number",
        "training.precision='int8': must be auto or fp32 or bf16 or fp16",
        "'lr': settings are given as section.key=value",
    ):
        assert part in message


def test_key_of_another_section_is_found():
    with pytest.raises(ConfigError, match=r"unknown key data\.learning_rate, did you mean"):
        load_config(None, ["data.learning_rate=1e-4"])


@pytest.mark.parametrize("key", BOUNDS)
def test_value_out_of_bounds_is_refused(key):
    with pytest.raises(ConfigError, match=key):
        load_config(None, [f"{key}=-1"])


def test_teachers_are_named_or_trained_and_not_for_the_baseline():
    with pytest.raises(ConfigError, match=r"distillation.teachers with num_teachers: name teachers or have them trained"):
        load_config(None, ["distillation.teachers=runs/a", "distillation.num_teachers=2"])
    with pytest.raises(ConfigError, match=r"model.backbone=tfidf with distillation: .* num_teachers=0"):
        load_config(ROOT / "configs" / "minilm.yaml", ["model.backbone=tfidf"])


def test_missing_file_and_broken_yaml_are_one_line(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("training: [\n")
    for path, word in ((tmp_path / "none.yaml", "cannot be read"), (broken, "is not YAML")):
        with pytest.raises(ConfigError, match=word) as caught:
            load_config(path)
        assert "\n" not in str(caught.value)


def test_resolved_config_reads_back_as_itself(tmp_path):
    config = load_config(None, ["data.label_columns=a,b", "training.head_learning_rate=1e-3"])
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)))
    assert load_config(path) == config


def test_every_key_is_described():
    rows = describe_keys()
    expected = [f"{s.name}.{f.name}" for s in dataclasses.fields(Config) for f in dataclasses.fields(getattr(Config(), s.name))]
    assert [key for key, _, _ in rows] == expected and len(expected) > 30
    assert all(len(text) > 5 for _, _, text in rows)
