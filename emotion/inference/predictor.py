"""The one way from texts to probabilities and labels, for a run folder, a model folder or a Hub id."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from tqdm import tqdm

from emotion.data.batching import batch_by_length, tokenize
from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.inference.model_folder import SIDECAR, Sidecar, check_fingerprint, read_sidecar
from emotion.labels import LabelSet
from emotion.modeling.factory import load_trained
from emotion.training.loop import predict_logits

BATCH_SIZE = 64
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Predictor:
    """A trained model, ready to answer."""

    model: Any
    tokenizer: Any
    label_set: LabelSet
    rule: DecisionRule
    sidecar: Sidecar
    device: torch.device

    @classmethod
    def load(cls, location: str, revision: str | None = None) -> "Predictor":
        """Return the predictor of a run folder, model folder or Hub id, on a GPU if there is one.

        Raises: ModelError if it is not a model of this project.
        """
        folder = find_model_folder(location)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        sidecar, rule = read_sidecar(folder, revision)
        label_set = LabelSet(sidecar.labels)
        precision = sidecar.precision if device.type == "cuda" else "fp32"
        model, tokenizer = load_trained(folder, sidecar.model, label_set, precision, sidecar.is_adapter, revision)
        check_fingerprint(model, sidecar, location)
        return cls(model.to(device), tokenizer, label_set, rule, sidecar, device)

    @property
    def form(self) -> str:
        """What else than the model decides the bits of an answer, in a word."""
        return f"torch on {self.device.type}"

    def predict(self, texts: list[str], description: str | None = None) -> np.ndarray:
        """Return calibrated probabilities, float32 (n, L), in the order of `texts`; `description` shows a progress bar."""
        return expit(self.predict_logits(texts, description=description))

    def predict_logits(
        self, texts: list[str], batch_size: int = BATCH_SIZE, is_padded: bool = False, description: str | None = None
    ) -> np.ndarray:
        """Return the calibrated logits, float32 (n, L); `is_padded` pads every batch to `max_length` tokens."""
        tokenized = tokenize(self.tokenizer, texts, self.sidecar.max_length, description and f"{description}: tokenize")
        batches = batch_by_length(tokenized, batch_size, width=self.sidecar.max_length if is_padded else 0)
        num_batches = -(-len(texts) // batch_size)
        progress = tqdm(batches, total=num_batches, desc=description, disable=description is None, unit="batch", leave=False)
        dtype = AUTOCAST.get(self.sidecar.precision)
        with torch.autocast("cuda", dtype) if dtype is not None and self.device.type == "cuda" else nullcontext():
            return predict_logits(self.model, progress, len(texts), self.device)


def find_model_folder(location: str) -> str:
    """Return the model folder of a run folder; a model folder or Hub id is returned as it is.

    Raises: ModelError for a path that is not there or holds no model.
    """
    path = Path(location).expanduser()
    if (path / "model" / SIDECAR).is_file():
        return str(path / "model")
    if path.is_dir():
        if not (path / SIDECAR).is_file():
            raise ModelError(f"--model {location}: holds no finished model (no model/{SIDECAR}); train one with train.py")
        return str(path)
    if location.count("/") != 1 or location.startswith((".", "/", "~", "runs/")):
        raise ModelError(f"--model {location}: no such folder; `ls runs` shows the runs that there are")
    return location
