"""Shared: a tiny BERT made on the spot, a run of it trained by train.py, and a way to call the scripts as a user does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "emotion" / "data" / "sample"
THREADS = {"OMP_NUM_THREADS": "1"}
"""Tiny models gain nothing from more, and lose much where something else runs beside them."""
GOEMOTIONS_ROWS = ["I love this!\t18\ta1", 'He said "no"\t2,3\ta2', "NA\t27\ta3", "so\x85so 🙃\t27,0\ta4"]


def run_script(*words: str, folder: Path = ROOT, stdin: str | bytes | None = None, **environment: str) -> subprocess.CompletedProcess:
    """Run `python WORDS` and return what it printed."""
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "1", **THREADS, **environment}
    is_bytes = isinstance(stdin, bytes)
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=folder, input=stdin if stdin is not None else "", capture_output=True, text=not is_bytes, timeout=300, env=variables
    )


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights, two layers of width 32, its tokenizer trained on the bundled corpus."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_bert")
    words = BertWordPieceTokenizer()
    words.train([str(SAMPLE / "train.csv")], vocab_size=1_500, show_progress=False)
    words.save_model(str(folder))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=128).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1_500,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the tiny BERT, trained for two epochs by the command that a user types."""
    folder = tmp_path_factory.mktemp("runs")
    result = run_script(
        "train.py",
        "--config",
        "configs/quickstart.yaml",
        f"model.backbone={tiny_bert}",
        f"run.folder={folder}",
        "run.name=tiny",
        "training.epochs=2",
        "training.per_device_batch_size=64",
        "training.learning_rate=3e-3",
    )
    assert result.returncode == 0, result.stderr
    return folder / "tiny"
