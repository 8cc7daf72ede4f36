"""The four models of the study, through the scripts, on tiny checkpoints of their architectures and the bundled corpus."""

import json

import pandas as pd
import pytest
import yaml

from emotion.inference.predictor import Predictor
from emotion.tracking.run_folder import RunFolder
from tests.conftest import ROOT, SAMPLE, run_script

STUDY = {"distilbert": "distilbert", "gemma_lora": "gemma", "mistral_lora": "mistral", "mistral_qlora": "mistral"}
HUB_IDS = {
    "distilbert": "distilbert/distilbert-base-uncased",
    "gemma_lora": "google/gemma-1.1-2b-it",
    "mistral_lora": "mistralai/Mistral-7B-v0.1",
    "mistral_qlora": "mistralai/Mistral-7B-Instruct-v0.2",
}
NUM_ROWS = {"distilbert": 2, "gemma_lora": 16, "mistral_lora": 16, "mistral_qlora": 16}
NUM_COPIES = {"distilbert": 800, "gemma_lora": 30, "mistral_lora": 30, "mistral_qlora": 30}
"""Training rows, and copies of each. An encoder's head starts at the base rates, near the loss of a model that knows nothing: halving it
takes 40 to 70 steps of 200 for two rows, with five seeds of five, and more than 400 for 16."""
NUM_PARAMETERS = {  # of the checkpoint, counted from the shapes of its tensors, plus head and adapters
    "distilbert": 66_362_880 + 590_592 + 28 * 769,
    "gemma_lora": 2_506_172_416 + 28 * 2_048 + 19_611_648,
    "mistral_lora": 7_110_660_096 + 28 * 4_096 + 41_943_040,
    "mistral_qlora": 7_110_660_096 + 28 * 4_096 + 41_943_040,
}


@pytest.mark.parametrize("name", STUDY)
def test_configs_of_both_datasets_differ_only_in_data_and_epochs(name):
    config, semeval_config = (yaml.safe_load((ROOT / "configs" / folder / f"{name}.yaml").read_text()) for folder in ("", "semeval"))
    assert config["model"] == semeval_config["model"] and config["model"]["backbone"] == HUB_IDS[name]
    assert config.get("lora") == semeval_config.get("lora")
    assert config["training"] | {"epochs": 0} == semeval_config["training"] | {"epochs": 0}


def make_data(folder, num_rows, num_copies):
    """Write many copies of a few training rows, so that one epoch, and one validation, is a long training."""
    folder.mkdir()
    for split, num_kept in (("train", num_rows), ("validation", 100)):
        rows = pd.read_csv(SAMPLE / f"{split}.csv", keep_default_na=False)[["text", "labels"]].iloc[:num_kept]
        pd.concat([rows] * (num_copies if split == "train" else 1)).to_csv(folder / f"{split}.csv", index=False)
    names = pd.read_csv(SAMPLE / "train.csv").labels.dropna().str.split("|").explode().unique()
    (folder / "labels.txt").write_text("\n".join(sorted(names)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDY)
def test_model_of_the_study_trains_saves_reloads_verifies_and_infers(name, tiny_backbones, tmp_path):
    result = run_script(
        "train.py",
        "--config",
        f"configs/{name}.yaml",
        f"model.backbone={tiny_backbones[STUDY[name]]}",
        f"data.source={make_data(tmp_path / 'data', NUM_ROWS[name], NUM_COPIES[name])}",
        "data.hub_config=null",
        "training.epochs=1",
        "training.per_device_batch_size=4",
        "training.gradient_accumulation_steps=2",
        "training.learning_rate=3e-3",
        "training.head_learning_rate=3e-3",
        "training.log_every=10",
        f"run.folder={tmp_path}",
        "run.name=run",
    )
    assert result.returncode == 0, result.stderr
    rows = RunFolder(tmp_path / "run").read_metrics()
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert losses[-1] < losses[0] / 2
    efficiency = json.loads((tmp_path / "run" / "efficiency.json").read_text())
    assert (efficiency["trainable_parameters"] == efficiency["parameters"]) == (name == "distilbert")

    verified = run_script("export.py", "--model", str(tmp_path / "run"), "--merge", str(tmp_path / "merged"), "hub.license=mit")
    if name == "distilbert":
        assert verified.returncode == 2 and "nothing to merge" in verified.stderr
        verified = run_script("export.py", "--model", str(tmp_path / "run"), "--verify")
    assert verified.returncode == 0, verified.stderr + verified.stdout
    assert "as trained, before saving" in verified.stdout and "plain transformers model" in verified.stdout
    assert ("merged into" in verified.stdout) == (name != "distilbert")
    assert verified.stdout.strip() in (tmp_path / "run" / "model" / "README.md").read_text()
    assert name == "distilbert" or "\nlicense: mit\n" in (tmp_path / "merged" / "README.md").read_text()

    inferred = run_script("infer.py", "--model", str(tmp_path / "run"), "--text", "I love it", "--json")
    record = json.loads(inferred.stdout)
    predictor = Predictor.load(str(tmp_path / "run"))
    shift = predictor.sidecar.validation["mean_shift"]
    assert (shift != 0) == (name == "distilbert")  # the heads of decoders have no biases, which would hold it
    expected = predictor.predict(["I love it"])[0]
    assert list(record["probabilities"].values()) == pytest.approx(sorted(expected, reverse=True), abs=1e-4)
    if name != "distilbert":
        merged = Predictor.load(str(tmp_path / "merged"))
        assert merged.predict(["I love it"])[0] == pytest.approx(expected, abs=1e-4) and not merged.sidecar.is_adapter
        assert (tmp_path / "merged" / "config.json").is_file()


@pytest.mark.parametrize("name", STUDY)
def test_dry_run_needs_neither_network_nor_weights(name, tmp_path):
    result = run_script("train.py", "--config", f"configs/{name}.yaml", "--dry-run", "training.precision=bf16", f"run.folder={tmp_path}")
    assert result.returncode == 0 and not result.stderr, result.stderr
    assert f"{NUM_PARAMETERS[name]:,}, of which" in result.stdout and "43,410 training rows" in result.stdout
    assert ("5,428 in 4 epochs" if name == "distilbert" else "2,714 in 2 epochs") in result.stdout
    assert not list(tmp_path.iterdir())


def test_benchmark_without_a_gpu_prints_a_message_and_runs_tiny_shapes(tmp_path):
    path = tmp_path / "out.json"
    result = run_script("-m", "benchmarks.full_size", "--output", str(path), "--steps", "3", "--batch-sizes", "1", warm=True)
    assert result.returncode == 0 and "no GPU" in result.stderr, result.stderr
    results = json.loads(path.read_text())
    assert len(results["rows"]) == 4 and not results["is_full_size"]
    assert all(row["examples_per_second"] > 0 for row in results["rows"])
