"""Names that a user gives: `~` is the home folder wherever a file or folder is named, and a path is never asked for on the Hub."""

import argparse
import ast
from pathlib import Path

import pytest

from emotion.config import load_config
from emotion.data.reading.finding import find_tables
from emotion.data.reading.streams import expand_patterns
from emotion.errors import ConfigError, DataError, ModelError
from emotion.inference.sidecar import find_model_folder
from emotion.paths import expand_home, expand_path, is_hub_id
from emotion.tracking.run_folder import RunFolder
from tests.conftest import ROOT, SAMPLE

PATHS = [
    "./x",
    "../x",
    "/abs/x",
    "~/x",
    "a/b/c",
    "x/",
    "runs/x",
    "models/x",
    "C:\\x",
    "C:/x",
    "C:\\data\\x.csv",
    "..\\x",
    "my models/x",
    "Modelle/für",
    "",
]
HUB_IDS = ["bert-base-uncased", "google/gemma-3-270m", "USER/NAME", "someone/Llama-3.2-1B", "_a/b_c", "run/x"]
PATH_OPTIONS = {"--model", "--input", "--output", "--merge", "--half", "--uploads", "--data", "runs"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, with a blank and an umlaut in its name."""
    folder = tmp_path / "große Häuser"
    folder.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(folder))
    return folder


def test_a_path_is_told_from_a_hub_id_by_its_look():
    assert [name for name in PATHS if is_hub_id(name)] == [] and [name for name in HUB_IDS if not is_hub_id(name)] == []


@pytest.mark.parametrize("name", [name for name in PATHS if name])
def test_a_path_that_is_not_there_is_refused_at_once(name, monkeypatch, tmp_path):
    monkeypatch.setattr("emotion.hub.find_obstacle", lambda: pytest.fail("asked the Hub"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"model.backbone={name}"])
    assert str(caught.value) == f"config: model.backbone={name!r}: no such folder"
    with pytest.raises(ModelError) as caught:
        find_model_folder(name)
    assert str(caught.value) == f"--model {name}: no such folder; `ls runs` lists the runs"
    with pytest.raises(DataError, match="no such file or folder, and not the id of a Hub dataset"):
        find_tables(load_config(None, [f"data.source={name}"]).data)


FAULTS = {
    "texts.csv": "is a file; give a folder written by save_pretrained, or a GGUF file",
    "folder": "has no config.json; give a folder written by save_pretrained",
    "folder/no.gguf": "no such file",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_backbone_that_is_no_model_is_refused_before_the_data_is_read(name, tmp_path):
    (tmp_path / "texts.csv").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"model.backbone={tmp_path / name}"])
    assert str(caught.value) == f"config: model.backbone={str(tmp_path / name)!r}: {FAULTS[name]}"


def test_a_file_is_no_trained_model(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(ModelError, match=r"x: is a file, not a folder; `ls runs` lists the runs$"):
        find_model_folder(str(tmp_path / "x"))


def test_the_config_of_an_older_run_is_read_although_its_backbone_is_gone(tmp_path):
    (tmp_path / "config.yaml").write_text("model: {backbone: ./gone}\n")
    assert load_config(tmp_path / "config.yaml", is_of_run=True).model.backbone == "./gone"


def test_the_home_folder_is_expanded_at_the_beginning_only(home):
    assert expand_path("~/x") == home / "x" and expand_home("~") == str(home)
    with pytest.raises(argparse.ArgumentTypeError, match="is empty; name a file or a folder"):
        expand_home("")  # a variable of the shell that is not set: it would be the current folder
    assert expand_home("~no-such-user/x") == "~no-such-user/x" and expand_home("a/~/b") == "a/~/b" and expand_home("-") == "-"


def test_the_home_folder_in_settings(home):
    (home / "own.csv").write_text((SAMPLE / "train.csv").read_text())
    (home / "own.yaml").write_text("run: {folder: ~/runs, name: first}\n")
    config = load_config("~/own.yaml", ["data.source=~/own.csv"])
    assert RunFolder.choose(config, "own").path == home / "runs" / "first"
    assert find_tables(config.data)["train"].path == str(home / "own.csv")
    assert expand_patterns(["~/*.csv"]) == expand_patterns(["~/own.csv"]) == (home / "own.csv",)


def test_options_that_name_a_path_expand_the_home_folder():
    """In every script: a shell expands `~` only where it begins a word, and not at all on Windows."""
    found = {}
    for script in sorted(ROOT.glob("*.py")):
        for call in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value in PATH_OPTIONS:
                types = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "type"]
                found[script.name, call.args[0].value] = types
    assert {option for _, option in found} == PATH_OPTIONS and set(map(str, found.values())) == {"['expand_home']"}, found
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=expand_home)
    assert parser.parse_args(["--model=~/x"]).model == str(Path.home() / "x")


def test_published_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/quickstart.yaml") == load_config(ROOT / "configs" / "quickstart.yaml")
    with pytest.raises(ConfigError, match=r"^configs/none\.yaml: cannot be read"):
        load_config("configs/none.yaml")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text("training: {seed: 7}\n")  # the user's own goes first
    assert load_config("configs/quickstart.yaml").training.seed == 7
