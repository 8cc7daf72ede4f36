"""Backbones and trained models by their Hub ids, from a server on the loopback that acts as the Hub."""

import json

import numpy as np
import pytest

from emotion.inference.predictor import Predictor
from tests.conftest import run_script
from tests.hub import GATED, TOKEN, serve_hub

TEXTS = ["I love it", "why is this so slow, it makes me angry every day"]


@pytest.mark.slow
def test_backbone_and_trained_model_are_loaded_by_id(tiny_backbones, tmp_path):
    with serve_hub({"someone/tiny": tiny_backbones["mistral"], "someone/trained": tmp_path / "run" / "model"}) as hub:
        train(tmp_path, hub)
        inferred = run_script("infer.py", "--model", "someone/trained", "--text", TEXTS[0], "--json", warm=True, **hub)
        assert inferred.returncode == 0, inferred.stderr
    expected = np.sort(Predictor.load(str(tmp_path / "run")).predict(TEXTS[:1])[0])[::-1]
    assert list(json.loads(inferred.stdout)["probabilities"].values()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_pushed_adapter_predicts_by_its_name_and_with_the_peft_code_of_its_card(tiny_backbones, tmp_path):
    with serve_hub({"someone/tiny": tiny_backbones["mistral"]}, tmp_path / "uploads") as hub:
        hub["HF_TOKEN"] = TOKEN
        train(tmp_path, hub, "lora.r=4", "model.quantization=nf4")
        pushed = run_script("export.py", "--model", str(tmp_path / "run"), "--push", "someone/adapter", warm=True, **hub)
        assert pushed.returncode == 0, pushed.stderr
        arguments = [argument for text in TEXTS for argument in ("--text", text)]
        inferred = run_script("infer.py", "--model", "someone/adapter", *arguments, "--json", warm=True, **hub)
        assert inferred.returncode == 0, inferred.stderr
        folder = tmp_path / "uploads" / "someone" / "adapter"
        code = (folder / "README.md").read_text().split("```python\n")[2].split("```")[0].replace('["a text"]', repr(TEXTS))
        with_peft = run_script("-c", f"{code}\nprint(probabilities)", warm=True, **hub)
        assert with_peft.returncode == 0, with_peft.stderr
    sidecar = json.loads((folder / "emotion.json").read_text())
    assert sidecar["model"]["backbone"] == "someone/tiny" and sidecar["fingerprint"] is not None
    assert (folder / "adapter_model.safetensors").stat().st_size < (tiny_backbones["mistral"] / "model.safetensors").stat().st_size
    for line, answers in zip(inferred.stdout.splitlines(), json.loads(with_peft.stdout.splitlines()[-1]), strict=True):
        # The run has its backbone in NF4, PEFT loads it in bf16 from the Hub: probabilities of a tiny model differ by about 0.03.
        assert sorted(answers, reverse=True) == pytest.approx(list(json.loads(line)["probabilities"].values()), abs=0.06)


def train(folder, hub, *more):
    """Train a run named `run` with the backbone `someone/tiny`."""
    settings = ["model.backbone=someone/tiny", "data.train_fraction=0.1", "training.epochs=1", f"run.folder={folder}", "run.name=run"]
    result = run_script("train.py", "--config", "configs/quickstart.yaml", *settings, *more, warm=True, **hub)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_gated_backbone_without_a_token_says_what_to_do(tmp_path):
    with serve_hub({}) as hub:
        arguments = ["train.py", "--config", "configs/quickstart.yaml", f"model.backbone={GATED}", f"run.folder={tmp_path}"]
        result = run_script(*arguments, **hub)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(errors) == 1 and "accept its license on the Hub, then set HF_TOKEN" in errors[0]
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_unknown_repository_is_one_line():
    with serve_hub({}) as hub:
        result = run_script("infer.py", "--model", "someone/nothing", "--text", "a", **hub)
    assert result.returncode == 2 and "check the name and the network" in result.stderr and "Traceback" not in result.stderr
