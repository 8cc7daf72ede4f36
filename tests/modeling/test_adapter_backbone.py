"""The backbone of an adapter is found from any working directory, after a move of the project, and where --backbone says."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ConfigError, ModelError
from emotion.evaluation.decision import default_rule
from emotion.export import hub
from emotion.inference.loading import load_predictor
from emotion.inference.model_folder import save_model
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Sidecar, read_sidecar
from emotion.labels import LabelSet
from emotion.modeling.backbones import find_adapter_backbone, hide_folders
from emotion.modeling.build import build_model
from emotion.tracking.run_folder import RunFolder
from tests.conftest import make_backbone, run_script

LABELS = LabelSet(("anger", "joy", "fear"))
TEXTS = ["no", "I am so happy for you, this is wonderful!"]


@pytest.fixture
def project(tiny_bert, tmp_path, monkeypatch):
    """A project folder, the working directory: an adapter in runs/one/model, on the backbone in bases/bert, named by that path."""
    folder = tmp_path / "project"
    shutil.copytree(tiny_bert, folder / "bases" / "bert")
    (folder / "runs" / "one").mkdir(parents=True)
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    settings = ModelConfig("bases/bert")
    model, tokenizer = build_model(settings, LoraConfig(r=4), LABELS, np.full(3, 0.3))
    sidecar = Sidecar(LABELS.names, settings, 64, "fp32", {})
    save_model(folder / "runs" / "one" / "model", model, tokenizer, default_rule(3), sidecar, "card")
    return folder


@pytest.fixture
def expected(project):
    return Predictor.load("runs/one").predict(TEXTS)


def make_old(model_folder):
    """Have the sidecar name the backbone as earlier versions did: as the config names it."""
    path = model_folder / "emotion.json"
    values = json.loads(path.read_text())
    values["model"]["backbone"] = "bases/bert"
    path.write_text(json.dumps(values))


def test_the_backbone_is_stored_by_its_absolute_path(project):
    stored = json.loads((project / "runs/one/model/emotion.json").read_text())["model"]["backbone"]
    adapter = json.loads((project / "runs/one/model/adapter_config.json").read_text())["base_model_name_or_path"]
    assert stored == adapter == str(project / "bases" / "bert")


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("is_moved", [False, True], ids=["there", "moved"])
def test_an_adapter_is_loaded_from_another_working_directory_and_after_a_move(project, expected, is_old, is_moved, tmp_path):
    if is_old:
        make_old(project / "runs" / "one" / "model")
    os.chdir("/")
    if is_moved:
        project = project.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(Predictor.load(str(project / "runs" / "one")).predict(TEXTS), expected)


def test_a_backbone_that_is_elsewhere_is_named(project, expected, tmp_path):
    moved = shutil.move(project / "bases" / "bert", tmp_path / "other-name")
    with pytest.raises(ModelError) as caught:
        Predictor.load("runs/one")
    assert str(caught.value) == (
        f"runs/one/model: the backbone of its adapter: model.backbone='{project}/bases/bert': no such folder; "
        "if it is elsewhere, name it with --backbone PATH"
    )
    np.testing.assert_array_equal(load_predictor("runs/one", "auto", backbone=str(moved)).predict(TEXTS), expected)


def test_a_named_backbone_is_held_against_the_fingerprint(project):
    (project / "other").mkdir()
    other = make_backbone("bert", project / "other", seed=7)
    with pytest.raises(ModelError, match=r"was trained on other weights than those of '.*other' now; name the folder .* --backbone PATH"):
        Predictor.load("runs/one", backbone=str(other))


def test_a_full_model_takes_no_backbone(tiny_run):
    with pytest.raises(ModelError) as caught:
        load_predictor(str(tiny_run), "torch", backbone="base")
    assert str(caught.value) == f"--backbone base: {tiny_run} is a full model, which needs no backbone; leave it out"
    with pytest.raises(ModelError, match="is a full model"):
        load_predictor(str(tiny_run), "auto", is_brief=True, backbone="base")
    for backend in ("numpy", "onnx"):
        with pytest.raises(ConfigError, match=f"--backbone base: is for adapters, which --backend {backend} does not run"):
            load_predictor(str(tiny_run), backend, backbone="base")


def test_a_name_that_can_be_a_hub_id_is_not_searched_by_its_last_part(tmp_path):
    folder = tmp_path / "runs" / "one" / "model"
    folder.mkdir(parents=True)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    assert find_adapter_backbone("google/bert", folder) == "google/bert"
    assert find_adapter_backbone("/gone/google/bert", folder) == str(tmp_path / "bert")
    assert find_adapter_backbone("bundled:all-MiniLM-L6-v2", folder) == "bundled:all-MiniLM-L6-v2"


class FakeApi:
    """A client of the Hub that writes a commit into a folder."""

    endpoint = "https://hub"

    def __init__(self, folder):
        self.folder = folder

    def create_repo(self, name, **_):
        return SimpleNamespace(repo_id=name)

    def model_info(self, _):
        return SimpleNamespace(private=True, siblings=[])

    def create_commit(self, _, operations, commit_message):
        for operation in operations:
            with operation.as_file() as stream:
                (self.folder / operation.path_in_repo).write_bytes(stream.read())


def test_a_push_publishes_no_folder_of_this_machine(project, expected, tmp_path, monkeypatch):
    pushed = tmp_path / "pushed"
    pushed.mkdir()
    monkeypatch.setattr(hub, "open_hub", lambda _: FakeApi(pushed))
    monkeypatch.setattr(hub, "complete_card", lambda *_, **__: None)
    run = RunFolder(project / "runs" / "one")
    hub.push_model(run, "someone/one", is_private=True)
    assert {path.name for path in pushed.iterdir()} == {path.name for path in run.model.iterdir()}
    assert not [path.name for path in pushed.iterdir() if str(tmp_path).encode() in path.read_bytes()]
    local, public = (json.loads((folder / "emotion.json").read_text()) for folder in (run.model, pushed))
    assert public["fingerprint"] is not None and public == local | {"model": local["model"] | {"backbone": "./bert"}}
    assert json.loads((pushed / "adapter_config.json").read_text())["base_model_name_or_path"] == "./bert"
    with pytest.raises(ModelError, match=r"model.backbone='./bert': no such folder; if it is elsewhere, name it with --backbone PATH$"):
        Predictor.load(str(pushed))
    np.testing.assert_array_equal(Predictor.load(str(pushed), backbone=str(project / "bases" / "bert")).predict(TEXTS), expected)


def test_a_full_model_names_no_folder_of_this_machine(project):
    settings = ModelConfig(str(project / "bases" / "bert"))
    model, tokenizer = build_model(settings, LoraConfig(), LABELS, np.full(3, 0.3))
    folder = project / "full"
    save_model(folder, model, tokenizer, default_rule(3), Sidecar(LABELS.names, settings, 64, "fp32", {}), "card")
    assert read_sidecar(str(folder))[0].model == ModelConfig("./bert") and hub.read_public(folder) == {}
    assert not [path.name for path in folder.iterdir() if str(project).encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/home/me/base", "./base"),
        ("~/base/", "./base"),
        ("../x/mistral.gguf", "./mistral.gguf"),
        ("mistral.GGUF", "./mistral.GGUF"),
        (r"C:\me\base", "./base"),
        ("C:/me/base", "./base"),
        ("bases/bert", "./bert"),
        ("google/bert", "google/bert"),
        ("gpt2", "gpt2"),
        ("bundled:all-MiniLM-L6-v2", "bundled:all-MiniLM-L6-v2"),
        ("tfidf", "tfidf"),
    ],
)
def test_names_of_folders_are_hidden_and_those_of_the_hub_are_not(name, shown, project):
    (project / "tfidf").mkdir()
    assert hide_folders(name) == shown and hide_folders(shown) == shown


@pytest.mark.slow
def test_the_scripts_take_the_backbone(project, tmp_path):
    moved = shutil.move(project / "bases" / "bert", tmp_path / "other-name")
    (tmp_path / "rows.csv").write_text("text,labels\n" + "".join(f"row {row},{LABELS.names[row % 3]}\n" for row in range(6)))
    model = ["--model", str(project / "runs" / "one" / "model"), "--backbone", str(moved)]
    for words in (
        ["infer.py", *model, "--text", "hello"],
        ["evaluate.py", *model, "--input", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "scored.csv")],
        ["export.py", *model, "--verify", "--input", str(tmp_path / "rows.csv")],
    ):
        result = run_script(*words)
        assert result.returncode == 0, result.stderr
