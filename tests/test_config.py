import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from emotion.config import BOUNDS, Config, describe_keys, load_config, to_dict
from emotion.errors import ConfigError
from tests.conftest import run_script

ROOT = Path(__file__).parents[1]
PATHS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "accelerate")


def test_every_config_is_found():
    names = {str(path.relative_to(ROOT / "configs").with_suffix("")) for path in PATHS}
    both_datasets = {"distilbert", "gemma_lora", "mistral_lora", "mistral_qlora"}
    assert names >= {"quickstart", "minilm", "minilm_distilled", "tfidf"} | both_datasets | {f"semeval/{name}" for name in both_datasets}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_published_config_loads_with_its_values(path):
    written = yaml.safe_load(path.read_text())
    loaded = to_dict(load_config(path))
    for section, values in written.items():
        for key, value in values.items():
            assert loaded[section][key] == value


def test_minilm_trains_one_model():
    distillation = load_config(ROOT / "configs" / "minilm.yaml").distillation
    assert distillation.num_teachers == 0 and distillation.teachers is None


def test_minilm_distilled_differs_from_minilm_in_its_distillation_section_only():
    one, distilled = (to_dict(load_config(ROOT / "configs" / f"{name}.yaml")) for name in ("minilm", "minilm_distilled"))
    assert len(one) > 5 and [section for section in one if one[section] != distilled[section]] == ["distillation"]
    changed = {key: value for key, value in distilled["distillation"].items() if value != one["distillation"][key]}
    assert changed == {"num_teachers": 3, "weight": 1.0}


def test_override_replaces_the_value_of_the_file_and_is_converted():
    config = load_config(ROOT / "configs" / "quickstart.yaml", ["training.learning_rate=5e-5", "data.source=2024", "data.label_names=a,b"])
    assert config.training.learning_rate == 5e-5
    assert config.data.source == "2024"
    assert config.data.label_names == ("a", "b")
    assert config.training.epochs == load_config(ROOT / "configs" / "quickstart.yaml").training.epochs


def test_scientific_notation_in_yaml_is_a_number(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training:\n  learning_rate: 3e-4\n")  # PyYAML reads a string
    assert load_config(path).training.learning_rate == 3e-4


def test_all_errors_are_reported_together_with_the_nearest_keys():
    overrides = ["trainin.epochs=3", "training.epoch=3", "training.seed=a", "training.precision=int8", "lr", "lora.r=-1"]
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    message = str(caught.value)
    for part in (
        "unknown key trainin, did you mean training?",
        "unknown key training.epoch, did you mean training.epochs?",
        "training.seed='a': must be an integer",
        "training.precision='int8': must be auto or fp32 or bf16 or fp16",
        "'lr': must be section.key=value",
        "lora.r=-1: must be ",
    ):
        assert part in message


def test_key_in_the_wrong_section_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown key data\.learning_rate, did you mean"):
        load_config(None, ["data.learning_rate=1e-4"])


@pytest.mark.parametrize("key", BOUNDS)
def test_value_out_of_bounds_raises(key):
    with pytest.raises(ConfigError, match=key):
        load_config(None, [f"{key}={'../x' if key == 'run.name' else -1}"])


@pytest.mark.parametrize("name", ["a/b", "..", ".", "/tmp/x", "a\\b"])
def test_a_run_lies_in_its_folder(name):
    """A name that is a path would be a run that no script finds again."""
    with pytest.raises(ConfigError, match=r"run\.name=.*: must be the name of one folder, without / and \\; run\.folder=FOLDER says where"):
        load_config(None, [f"run.name={name}"])
    assert load_config(None, ["run.name=2. try.of me"]).run.name == "2. try.of me"


def test_teachers_exclude_num_teachers_and_the_baseline():
    with pytest.raises(ConfigError, match=r"distillation\.teachers with distillation\.num_teachers: set only one of them"):
        load_config(None, ["distillation.teachers=runs/a", "distillation.num_teachers=2"])
    with pytest.raises(ConfigError, match=r"model\.backbone=tfidf with distillation: .*num_teachers=0"):
        load_config(ROOT / "configs" / "minilm_distilled.yaml", ["model.backbone=tfidf"])


def test_missing_file_and_invalid_yaml_raise_one_line(tmp_path):
    invalid = tmp_path / "invalid.yaml"
    invalid.write_text("training: [\n")
    for path, message in ((tmp_path / "missing.yaml", "cannot be read"), (invalid, "is not valid YAML")):
        with pytest.raises(ConfigError, match=message) as caught:
            load_config(path)
        assert "\n" not in str(caught.value)


def test_saved_config_loads_as_the_same_config(tmp_path):
    config = load_config(None, ["data.label_columns=a,b", "training.head_learning_rate=1e-3"])
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)))
    assert load_config(path) == config


def test_every_key_has_a_description():
    rows = describe_keys()
    expected = [f"{s.name}.{f.name}" for s in dataclasses.fields(Config) for f in dataclasses.fields(getattr(Config(), s.name))]
    assert [key for key, _, _ in rows] == expected and len(expected) > 30
    assert all(len(text) > 5 for _, _, text in rows)


SECRETS = {
    "hub.repo": "https://someone:hunter22@host/name",
    "data.source": "s3://AKIAIOSFODNN7EXAMPLE/emotions",
    "data.train": "https://host/train.csv?token=hunter22",
    "data.label_names": "joy,hf_" + "plantedTOKEN" * 3,
    "model.revision": "ghp_" + "a1" * 18,
    "run.name": "correct horse",
}


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_as_a_setting_is_refused_and_not_printed(key, monkeypatch):
    monkeypatch.setenv("STORE_PASSWORD", "correct horse")
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["model.backbone=someone/model", f"{key}={SECRETS[key]}"])
    expected = f"config: {key}: looks like a token or password, and settings are written to files; set HF_TOKEN or WANDB_API_KEY instead"
    assert str(caught.value) == expected


@pytest.mark.parametrize("override", ["training.seed={}", "hub.{}=1", "{}", "training.precision={}"])
def test_no_error_quotes_a_secret(override, tmp_path):
    secret = SECRETS["data.train"]
    path = tmp_path / "c.yaml"
    path.write_text(f"data: [{{{secret}\n")
    for arguments in ((None, [override.format(secret)]), (path,)):
        with pytest.raises(ConfigError) as caught:
            load_config(*arguments)
        assert "hunter22" not in str(caught.value)


def test_what_only_resembles_a_secret_is_accepted():
    overrides = [
        "model.backbone=someone/model",
        "model.revision=" + "0123456789" * 4,
        "data.source=/data/hf_datasets/emotions",
        "hub.repo=someone/task-based-classification",
    ]
    assert load_config(None, overrides).model.revision == "0123456789" * 4


def test_the_config_of_an_older_run_loads_with_what_is_refused_now(tmp_path):
    config = dataclasses.replace(Config(), hub=dataclasses.replace(Config().hub, repo=SECRETS["hub.repo"]))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)))
    assert load_config(path, is_of_run=True) == config
    with pytest.raises(ConfigError, match="looks like a token"):
        load_config(path)


def test_text_that_no_file_can_hold_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text('run: {name: "a\\0b"}\n')
    cases = [(None, ["run.name=caf\udce9"]), (None, ["data.label_names=joy,caf\udce9"]), (path,)]
    for arguments, shown in zip(cases, [r"run.name='caf\udce9'", r"data.label_names='joy,caf\udce9'", r"run.name='a\x00b'"], strict=True):
        with pytest.raises(ConfigError) as caught:
            load_config(*arguments)
        assert str(caught.value).endswith(f": {shown}: must be valid UTF-8, without a NUL character")


def test_a_value_that_yaml_cannot_read_is_text_or_one_line(tmp_path):
    """PyYAML raises a ValueError for a date that does not exist, and a RecursionError for what is nested too deep."""
    assert load_config(None, ["run.name=2026-13-45"]).run.name == "2026-13-45"
    path = tmp_path / "c.yaml"
    for content in ("run: {name: 2026-13-45}\n", "run: " + "[" * 1_000):
        path.write_text(content)
        with pytest.raises(ConfigError, match="is not valid YAML") as caught:
            load_config(path)
        assert "\n" not in str(caught.value)


TYPED = {"#": "#", " ": " ", "\n": "\n", " and ": " and ", "|": "|", "null": None, "~": None, "": None, "'": "'"}
"""By what is typed, the value of a string setting."""


@pytest.mark.parametrize(("text", "value"), TYPED.items())
def test_a_string_is_read_as_it_was_typed(text, value):
    assert load_config(None, [f"data.label_delimiter={text}"]).data.label_delimiter == value


@pytest.mark.parametrize(
    ("num_rows", "num_epochs", "of_student"),
    [(1, 20, 80), (520, 20, 80), (1_040, 10, 40), (1_300, 8, 32), (3_000, 3, 14), (4_348, 3, 10), (14_045, 3, 3), (43_410, 3, 3)],
)
def test_automatic_epochs_read_a_number_of_rows(num_rows, num_epochs, of_student):
    training = load_config(ROOT / "configs" / "quickstart.yaml").training
    assert training.epochs == "auto" and training.resolve_epochs(num_rows, is_student=False).num_epochs == num_epochs
    assert training.resolve_epochs(num_rows, is_student=True).num_epochs == of_student
    fixed = load_config(None, ["training.epochs=5"]).training
    assert fixed.resolve_epochs(num_rows, is_student=True) is fixed and fixed.num_epochs == 5


@pytest.mark.parametrize(
    ("value", "expected"), [("many", "must be an integer or auto"), ("1.5", "must be an integer or auto"), ("0", "must be at least 1, or")]
)
def test_other_epochs_are_refused(value, expected):
    with pytest.raises(ConfigError, match=rf"training\.epochs=.*{value}.*: {expected}"):
        load_config(None, [f"training.epochs={value}"])


@pytest.mark.parametrize("names", ["[joy, no]", "[null, joy]", "[joy, [anger]]", "[2026-11-26]"])
def test_a_name_that_yaml_reads_as_something_else_is_refused(tmp_path, names):
    """`no` would be the label `False`."""
    (tmp_path / "config.yaml").write_text(f"data:\n  label_names: {names}\n")
    for arguments in ((tmp_path / "config.yaml",), (None, [f"data.label_names={names}"])):
        with pytest.raises(ConfigError, match=r"data\.label_names=\[.*\]: must be .*list of names, with quotes around those that YAML"):
            load_config(*arguments)
    (tmp_path / "config.yaml").write_text("data:\n  label_names: [joy, 'no', 2, 0.5]\n")
    assert load_config(tmp_path / "config.yaml").data.label_names == ("joy", "no", "2", "0.5")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["text_column=a", "label_column=a"], "data.text_column and data.label_column both name the column 'a'; leave one of them out"),
        (["text_column=a", "label_columns=b,a"], "data.text_column and data.label_columns both name the column 'a'; leave one of them out"),
        (["label_column=a", "rater_column=a"], "data.label_column and data.rater_column both name the column 'a'; leave one of them out"),
    ],
)
def test_a_column_that_is_named_for_two_things_is_refused(settings, problem):
    """A model would learn the labels from the labels."""
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load_config(None, [f"data.{setting}" for setting in settings])
    assert load_config(None, ["data.text_column=a", "data.label_column=b", "data.id_column=a"]).data.text_column == "a"


def test_a_key_that_stands_twice_is_refused(tmp_path):
    """PyYAML would drop the first section."""
    path = tmp_path / "c.yaml"
    path.write_text("training:\n  epochs: 9\ndata:\n  max_length: 64\ntraining:\n  seed: 3\n")
    with pytest.raises(ConfigError, match=r"the key training stands here for the second time; keep one of them.* line 5, column 1"):
        load_config(path)
    path.write_text("training: {epochs: 9, seed: 1, epochs: 2}\n")
    with pytest.raises(ConfigError, match="the key epochs stands here for the second time"):
        load_config(path)
    path.write_text("data: &common {max_length: 64}\ntraining: {epochs: 9}\n")
    assert load_config(path, ["training.epochs=2"]).training.epochs == 2


def test_a_number_in_place_of_a_text_is_what_was_written(tmp_path):
    """The branch 1.10 is not 1.1, and 010, which is 8 in YAML, can be a column."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "data: {text_column: 010, label_names: [1.10, 007, 1:30], max_length: 0x20}\n"
        "model: {backbone: someone/model, revision: 1.10}\ntraining: {epochs: 3, learning_rate: 1e-3, weight_decay: 0}\n"
    )
    config = load_config(path, ["data.first_label_id=1"])
    assert (config.data.text_column, config.model.revision) == ("010", "1.10")
    assert config.data.label_names == ("1.10", "007", "1:30") == load_config(None, ["data.label_names=[1.10, 007, 1:30]"]).data.label_names
    assert (config.data.max_length, config.training.epochs, config.training.learning_rate) == (32, 3, 0.001)
    path.write_text(yaml.safe_dump(to_dict(config)))  # numbers of Python only, which can be written
    assert load_config(path) == config


@pytest.mark.parametrize("names", ["{0: joy, 1: anger}", "{joy, anger}", "{}"])
def test_a_mapping_is_no_list_of_names(names, tmp_path):
    """Its keys would be the labels."""
    path = tmp_path / "c.yaml"
    path.write_text(f"data: {{label_names: {names}}}\n")
    for arguments in ((path,), (None, [f"data.label_names={names}"])):
        with pytest.raises(ConfigError, match=r"data\.label_names=\{.*\}: must be a list of names"):
            load_config(*arguments)


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        (f"training.learning_rate={'1' * 400}", "must be a number"),
        ("training.timeout_minutes=inf", "must be above 0, at most 525600 (a year)"),
        ("lora.alpha=inf", "must be above 0, and finite"),
        (f"data.max_line_length={2**31}", "must be in [1, 2**31)"),
        ("data.first_label_id=true", "must be 0 or 1 or null"),
    ],
)
def test_a_value_that_a_library_would_not_take_is_refused(override, allowed):
    with pytest.raises(ConfigError, match=re.escape(allowed)):
        load_config(None, ["lora.r=8", override])


def test_the_config_of_a_teacher_is_read_before_anything_else():
    settings = ["data.source=none.csv", "distillation.num_teachers=1", "distillation.teacher_configs=configs/tfidf.yaml"]
    run = run_script("train.py", "--config", "configs/quickstart.yaml", "--dry-run", *settings)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("error: distillation.teacher_configs: configs/tfidf.yaml is of the baseline (tfidf)")
