"""A tiny BERT classifier without dropout, twelve texts of random tokens, and their labels: for tests of training and prediction."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from emotion.config import LoraConfig, ModelConfig
from emotion.data.batching import TokenizedTexts
from emotion.labels import LabelSet
from emotion.modeling.build import build_model

GENERATOR = np.random.default_rng(0)
NUM_ROWS = 12
TOKENS = TokenizedTexts([GENERATOR.integers(5, 1_000, size=GENERATOR.integers(3, 20)).tolist() for _ in range(NUM_ROWS)], 0)
LABELS = GENERATOR.random((NUM_ROWS, 4)) < 0.4


def make_model(backbone: Path) -> Any:
    """Return a classifier of four labels on a backbone, the same for the same backbone."""
    torch.manual_seed(0)
    model, _ = build_model(ModelConfig(str(backbone)), LoraConfig(), LabelSet(("a", "b", "c", "d")), LABELS.mean(axis=0))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def run_out_of_memory() -> None:
    raise torch.OutOfMemoryError
