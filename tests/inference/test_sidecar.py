"""`emotion.json`, `config.json` and the tokenizer of a model folder are checked when they are read: one line each."""

import json
import math
import os
import shutil
from typing import Any

import pytest

from emotion.config import ModelConfig
from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.inference.loading import load_predictor
from emotion.inference.numpy_predictor import is_numpy_supported
from emotion.inference.sidecar import Sidecar, read_sidecar
from emotion.modeling.build import load_trained
from tests.conftest import run_script
from tests.inference.test_numpy import LABELS, save

STORED: dict[str, Any] = {
    "format_version": 1,
    "labels": ["anger", "joy"],
    "model": {"backbone": "b", "revision": None, "quantization": "none", "double_quantization": True, "attention": "auto"},
    "max_length": 64,
    "precision": "fp32",
    "validation": {"loss": 0.1, "macro_auroc": None},
    "fingerprint": None,
    "decision": {"thresholds": [0.5, 1], "empty_set": "none", "temperature": 1.5, "fitted_on": "rows", "global_threshold": 0.3},
}
"""As earlier versions wrote it: without `model.random_weights`, with `decision.global_threshold` and the temperature."""
RESTORE = "restore the file or save the model again"
REWRITE = "restore the file or write it again"


def write(folder, values, config=None):
    (folder / "emotion.json").write_text(values if isinstance(values, str) else json.dumps(values))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def read_error(folder):
    with pytest.raises(ModelError) as caught:
        read_sidecar(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    sidecar, rule = read_sidecar(str(write(tmp_path, STORED)))
    model = ModelConfig("b", random_weights=False)
    assert sidecar == Sidecar(("anger", "joy"), model, 64, "fp32", {"loss": 0.1, "macro_auroc": None})
    assert rule == DecisionRule((0.5, 1.0), "none", "rows")


LABEL_LISTS = ("'anger'", "['a']", "['a', 'a']", "['a', '']", "['a', 1]", "['a', '\\udcff']", "[]", "{}", "None")
INVALID = {
    "format_version": {"'1'": "an integer", "True": "an integer"},
    "labels": dict.fromkeys(LABEL_LISTS, "a list of two or more different names"),
    "model": {"'b'": "a JSON object"},
    "model.backbone": {"5": "a string"},
    "model.revision": {"1": "a string or null"},
    "model.quantization": {"'int4'": "none or nf4", "['nf4']": "none or nf4"},
    "model.random_weights": {"1": "true or false"},
    "max_length": dict.fromkeys(("0", "-5", "True", "64.0", "'64'", "None", str(2**63)), "an integer of at least 4"),
    "precision": dict.fromkeys(("'int8'", "'FP32'", "None", "['fp32']"), "fp32, bf16 or fp16"),
    "validation": {"[]": "a JSON object"},
    "fingerprint": {"1": "a string or null"},
    "decision": {"[]": "a JSON object"},
    "decision.thresholds": {"'0.5'": "a list", "None": "a list", "0.5": "a list"},
    "decision.thresholds[1]": dict.fromkeys(("nan", "inf", "-0.1", "1.1", "'0.5'", "None", "True", "[0.5]"), "a number in [0, 1]"),
    "decision.empty_set": dict.fromkeys(("'all'", "None", "['none']"), "none or top1"),
    "decision.fitted_on": {"5": "a string"},
}
CASES = [(key, value, allowed) for key, values in INVALID.items() for value, allowed in values.items()]


@pytest.mark.parametrize(("key", "text", "allowed"), CASES)
def test_a_value_that_is_not_allowed_is_one_line(key, text, allowed, tmp_path):
    values = json.loads(json.dumps(STORED))
    value = eval(text, {"nan": math.nan, "inf": math.inf})
    section, _, name = key.rpartition(".")
    if name.endswith("[1]"):
        values[section]["thresholds"] = [0.5, value]
    else:
        (values[section] if section else values)[name] = value
    remedy = REWRITE if section == "decision" else RESTORE
    assert read_error(write(tmp_path, values)) == f"{tmp_path / 'emotion.json'}: {key}={text}: must be {allowed}; {remedy}"


@pytest.mark.parametrize("key", [*STORED, "decision.thresholds"])
def test_a_missing_key_is_one_line(key, tmp_path):
    values = json.loads(json.dumps(STORED))
    section, _, name = key.rpartition(".")
    del (values[section] if section else values)[name]
    remedy = REWRITE if section == "decision" else RESTORE
    assert read_error(write(tmp_path, values)) == f"{tmp_path / 'emotion.json'}: {key} is missing; {remedy}"


def test_newer_formats_and_unknown_keys_are_one_line(tmp_path):
    path = tmp_path / "emotion.json"
    newer = read_error(write(tmp_path, {"format_version": 3}))
    assert newer == f"{path}: format_version is 3, this version of the project reads 1 and 2; update the project"
    unknown = read_error(write(tmp_path, STORED | {"model": {"depth\n": 1}}))
    assert unknown == f"{path}: model.'depth\\n': is no known setting; {RESTORE}, or update the project"
    unknown = read_error(write(tmp_path, STORED | {"decision": STORED["decision"] | {"other": 1}}))
    assert unknown == f"{path}: decision.'other': is no key of a decision rule; {REWRITE}"
    short = read_error(write(tmp_path, STORED | {"decision": {"thresholds": [0.5]}}))
    assert short == f"{path}: the decision rule has 1 thresholds, expected 2, one for each label; {REWRITE}"


DAMAGED = {
    "empty": (b"", "cannot be read (JSONDecodeError: "),
    "cut": (json.dumps(STORED).encode()[:-9], "cannot be read (JSONDecodeError: "),
    "nested": (b"[" * 100_000 + b"]" * 100_000, "cannot be read (RecursionError: "),
    "not UTF-8": (b'{"labels": "\xff"}', "cannot be read (UnicodeDecodeError: "),
    "long number": (b"1" * 5_000, "cannot be read (ValueError: "),
    "list": (b"[]", "must hold a JSON object, not []; "),
    "null": (b"null", "must hold a JSON object, not None; "),
    "text": (b'"' + b"a" * 100 + b'"', "must hold a JSON object, not 'aaaaaaaaaaaa...aaaaaaaaaaaaa'; "),
}


@pytest.mark.parametrize("name", ["emotion.json", "config.json"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_one_line(damage, name, tmp_path):
    content, message = DAMAGED[damage]
    write(tmp_path, STORED, config={})
    (tmp_path / name).write_bytes(content)
    error = read_error(tmp_path)
    assert error.startswith(f"{tmp_path / name}: {message}") and error.endswith(RESTORE) and len(error) < 300 + len(str(tmp_path))


def test_a_huge_file_is_not_read(tmp_path):
    write(tmp_path, STORED)
    os.truncate(tmp_path / "emotion.json", 2**26 + 1)
    assert read_error(tmp_path) == f"{tmp_path / 'emotion.json'}: has 67,108,865 bytes, at most 67,108,864 are read; {RESTORE}"


@pytest.mark.parametrize(("model_type", "positions"), [("bert", 64), ("roberta", 66), ("xlm-roberta", 66)])
def test_max_length_is_at_most_the_positions_of_the_backbone(model_type, positions, tmp_path):
    config = {"model_type": model_type, "max_position_embeddings": positions}
    read_sidecar(str(write(tmp_path, STORED, config)))
    error = read_error(write(tmp_path, STORED | {"max_length": 65}, config))
    assert error == f"{tmp_path / 'emotion.json'}: max_length=65: must be at most 64, the positions of the backbone; {RESTORE}"


@pytest.mark.parametrize("positions", [-1, None])
def test_a_backbone_without_a_limit_takes_any_length(positions, tmp_path):
    """XLNet's config says -1."""
    config = {"model_type": "xlnet", "max_position_embeddings": positions}
    assert read_sidecar(str(write(tmp_path, STORED | {"max_length": 4_000}, config)))[0].max_length == 4_000


def test_config_json_has_one_output_for_each_label(tmp_path):
    read_sidecar(str(write(tmp_path, STORED, {"id2label": {"0": "anger", "1": "joy"}})))
    error = read_error(write(tmp_path, STORED, {"id2label": {"0": "anger"}}))
    expected = "its head has 1 labels, its emotion.json 2; restore the files that belong together or save the model again"
    assert error == f"{tmp_path}: {expected}"
    assert "id2label=5: must be a JSON object" in read_error(write(tmp_path, STORED, {"id2label": 5}))
    assert "max_position_embeddings='1': must be an integer" in read_error(write(tmp_path, STORED, {"max_position_embeddings": "1"}))


@pytest.fixture(scope="module")
def model_folder(tiny_backbones, tmp_path_factory):
    return save(tiny_backbones["bert"], tmp_path_factory.mktemp("sidecar") / "model")


@pytest.fixture
def model_copy(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def loading_error(folder, backend):
    with pytest.raises(ModelError) as caught:
        load_predictor(str(folder), backend)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_ids_beyond_the_vocabulary_are_refused_when_a_model_is_loaded(model_copy):
    path = model_copy / "tokenizer.json"
    stored = path.read_text()
    size = json.loads((model_copy / "config.json").read_text())["vocab_size"]
    in_template, in_vocabulary = json.loads(stored), json.loads(stored)
    in_template["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [99_999]  # transformers builds its own template
    in_vocabulary["model"]["vocab"]["love"] = 99_999
    for content in (in_template, in_vocabulary):
        path.write_text(json.dumps(content))
        assert loading_error(model_copy, "numpy") == f"{model_copy}: its tokenizer has 100,000 tokens, its config.json {size:,}; {RESTORE}"
    expected = f"{model_copy}: its tokenizer has 100,000 tokens, its model {size:,} embeddings; give a matching pair"
    assert loading_error(model_copy, "torch") == expected


def test_a_head_of_another_size_is_refused_when_a_model_is_loaded(model_copy):
    labels = [*LABELS.names, "more"]
    decision = DecisionRule((0.5,) * 4).to_dict()
    edit(model_copy / "emotion.json", labels=labels, decision=decision)
    config = json.loads((model_copy / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (model_copy / "config.json").write_text(json.dumps(config))
    assert loading_error(model_copy, "numpy").startswith(f"{model_copy}: its head has 3 labels, its emotion.json 4; ")
    assert "its weights do not have 'classifier.bias', 'classifier.weight' as config.json describes" in loading_error(model_copy, "torch")
    with pytest.raises(ModelError, match=r"its head has 3 labels, its emotion\.json 2"):
        edit(model_copy / "config.json", id2label={"0": "a", "1": "b", "2": "c"})
        load_trained(str(model_copy), ModelConfig("b"), type(LABELS)(("a", "b")), "fp32", is_adapter=False)


@pytest.mark.parametrize(
    "changes",
    [{"pad_token_id": None}, {"pad_token_id": "0"}, {"pad_token_id": -1}, {"num_attention_heads": 0}, {"num_hidden_layers": "2"}],
    ids=str,
)
def test_values_of_config_json_that_numpy_cannot_use_are_one_line(changes, model_copy):
    edit(model_copy / "config.json", **changes)
    assert str(model_copy) in loading_error(model_copy, "numpy")


@pytest.mark.parametrize(
    "changes", [{"num_hidden_layers": "2"}, {"hidden_size": {}}, {"model_type": ["bert"]}, {"architectures": 5}], ids=str
)
def test_values_of_config_json_that_transformers_cannot_use_are_one_line(changes, model_copy):
    edit(model_copy / "config.json", **changes)
    is_numpy_supported(model_copy)  # does not raise
    if "architectures" not in changes:
        assert str(model_copy) in loading_error(model_copy, "torch")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused(name, model_copy, tmp_path):
    """Whatever they hold: these would create a file when they are unpickled."""
    (model_copy / "model.safetensors").unlink()
    (model_copy / name).write_bytes(b"cposix\nsystem\n(S'touch %s'\ntR." % os.fsencode(tmp_path / "ran"))
    expected = (
        f"{model_copy}: its weights are pickled ({name}) and are not read, because a pickle can run code; "
        "give a model with .safetensors weights, which save_pretrained of transformers writes"
    )
    assert loading_error(model_copy, "auto") == expected
    result = run_script("infer.py", "--model", str(model_copy), "--text", "a")
    assert (result.returncode, result.stderr) == (2, f"error: {expected}\n")
    settings = ["--config", "configs/quickstart.yaml", f"model.backbone={model_copy}", f"run.folder={tmp_path}"]
    result = run_script("train.py", *settings)
    assert result.returncode == 2 and result.stderr.endswith(f"error: {expected}\n") and "Traceback" not in result.stderr
    (model_copy / name).rename(model_copy / "adapter_model.bin")
    edit(model_copy / "emotion.json", fingerprint="0")
    assert "its weights are pickled (adapter_model.bin)" in loading_error(model_copy, "auto")
    assert not (tmp_path / "ran").exists()
