"""Backbones and trained models by their Hub ids, from a stand-in for the Hub on the loopback."""

import json

import numpy as np
import pytest

from emotion.inference.predictor import Predictor
from tests.conftest import run_script
from tests.hub import GATED, TOKEN, serve_hub

TEXTS = ["I love it", "why is this so slow, it makes me angry every day"]


def test_trained_model_and_its_backbone_by_id(tiny_backbones, tmp_path):
    with serve_hub({"someone/tiny": tiny_backbones["mistral"], "someone/trained": tmp_path / "run" / "model"}) as hub:
        hub["HF_HOME"] = str(tmp_path / "cache")
        train(tmp_path, hub)
        inferred = run_script("infer.py", "--model", "someone/trained", "--text", TEXTS[0], "--json", warm=2, **hub)
        assert inferred.returncode == 0, inferred.stderr
    expected = np.sort(Predictor.load(str(tmp_path / "run")).predict(TEXTS[:1])[0])[::-1]
    assert list(json.loads(inferred.stdout)["probabilities"].values()) == pytest.approx(expected, abs=1e-4)


def test_pushed_adapter_answers_by_its_name_and_by_peft_as_its_card_says(tiny_backbones, tmp_path):
    with serve_hub({"someone/tiny": tiny_backbones["mistral"]}, tmp_path / "uploads") as hub:
        hub |= {"HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": TOKEN}
        train(tmp_path, hub, "lora.r=4", "model.quantization=nf4")
        pushed = run_script("evaluate.py", "--model", str(tmp_path / "run"), "--push", "someone/adapter", warm=2, **hub)
        assert pushed.returncode == 0, pushed.stderr
        words = [word for text in TEXTS for word in ("--text", text)]
        inferred = run_script("infer.py", "--model", "someone/adapter", *words, "--json", warm=2, **hub)
        assert inferred.returncode == 0, inferred.stderr
        folder = tmp_path / "uploads" / "someone" / "adapter"
        code = (folder / "README.md").read_text().split("# or by PEFT alone:")[1].split("```")[0].replace('["a text"]', repr(TEXTS))
        by_peft = run_script("-c", f"{code}\nprint(probabilities)", **hub)
        assert by_peft.returncode == 0, by_peft.stderr
    sidecar = json.loads((folder / "emotion.json").read_text())
    assert sidecar["model"]["backbone"] == "someone/tiny" and sidecar["fingerprint"] is not None
    assert (folder / "adapter_model.safetensors").stat().st_size < (tiny_backbones["mistral"] / "model.safetensors").stat().st_size
    for line, answers in zip(inferred.stdout.splitlines(), json.loads(by_peft.stdout.splitlines()[-1]), strict=True):
        # Ours is on NF4; PEFT takes the backbone as it is on the Hub, in bf16: a tiny model moves by some .03.
        assert sorted(answers, reverse=True) == pytest.approx(list(json.loads(line)["probabilities"].values()), abs=0.06)


def train(folder, hub, *more):
    """Train a run named `run` on the backbone `someone/tiny`."""
    settings = ["model.backbone=someone/tiny", "data.train_fraction=0.1", "training.epochs=1", f"run.folder={folder}", "run.name=run"]
    result = run_script("train.py", "--config", "configs/quickstart.yaml", *settings, *more, warm=2, **hub)
    assert result.returncode == 0, result.stderr


def test_gated_backbone_without_a_token_says_what_to_do(tmp_path):
    with serve_hub({}) as hub:
        words = ["train.py", "--config", "configs/quickstart.yaml", f"model.backbone={GATED}", f"run.folder={tmp_path}"]
        result = run_script(*words, **hub, HF_HOME=str(tmp_path / "cache"))
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(errors) == 1 and "accept its licence on the Hub, then set HF_TOKEN" in errors[0]
    assert "Traceback" not in result.stderr


def test_unknown_repository_is_one_line(tmp_path):
    with serve_hub({}) as hub:
        result = run_script("infer.py", "--model", "someone/nothing", "--text", "a", **hub, HF_HOME=str(tmp_path / "cache"))
    assert result.returncode == 2 and "check the name and the network" in result.stderr and "Traceback" not in result.stderr
