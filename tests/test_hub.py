"""Backbones and trained models by their Hub ids, from a stand-in for the Hub on the loopback."""

import json

import numpy as np
import pytest

from emotion.inference.predictor import Predictor
from tests.conftest import run_script
from tests.hub import GATED, serve_hub


@pytest.mark.parametrize("way", ["full", "adapter"])
def test_backbone_and_trained_model_by_id(way, tiny_backbones, tmp_path):
    with serve_hub({"someone/tiny": tiny_backbones["mistral"], "someone/trained": tmp_path / "run" / "model"}) as hub:
        hub["HF_HOME"] = str(tmp_path / "cache")
        settings = ["model.backbone=someone/tiny", "data.train_fraction=0.1", "training.epochs=1", f"run.folder={tmp_path}", "run.name=run"]
        settings += ["lora.r=4", "model.quantization=nf4"] if way == "adapter" else []
        trained = run_script("train.py", "--config", "configs/quickstart.yaml", *settings, **hub)
        assert trained.returncode == 0, trained.stderr
        inferred = run_script("infer.py", "--model", "someone/trained", "--text", "I love it", "--json", **hub)
        assert inferred.returncode == 0, inferred.stderr
    sidecar = json.loads((tmp_path / "run" / "model" / "emotion.json").read_text())
    assert sidecar["model"]["backbone"] == "someone/tiny" and (sidecar["fingerprint"] is not None) == (way == "adapter")
    if way == "full":  # an adapter's backbone would be asked of the Hub again
        expected = np.sort(Predictor.load(str(tmp_path / "run")).predict(["I love it"])[0])[::-1]
        assert list(json.loads(inferred.stdout)["probabilities"].values()) == pytest.approx(expected, abs=1e-4)


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
