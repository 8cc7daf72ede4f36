"""The same answers without torch: a model's ONNX form on ONNX Runtime, ready in a second.

The only user of onnxruntime. What it shares with `Predictor`: `label_set`, `rule`, `sidecar`, `form` and `predict`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.data.padding import batch_by_tokens, pad_rows
from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.inference.sidecar import Sidecar, find_model_folder, read_sidecar
from emotion.labels import LabelSet

ONNX_FOLDER, ONNX_FILE, ONNX_ABOUT = "onnx", "model.onnx", "about.json"
BATCH_TOKENS = 1_024
"""Tokens of a batch, padding included: enough for the matrix products to be fast, few enough for the caches."""


@dataclass(frozen=True)
class OnnxPredictor:
    """A trained model in its ONNX form."""

    session: Any
    tokenizer: Any
    label_set: LabelSet
    rule: DecisionRule
    sidecar: Sidecar
    form: str
    pad_token_id: int

    @classmethod
    def load(cls, location: str) -> "OnnxPredictor":
        """Return the predictor of a run or model folder that `evaluate.py --export onnx` was called for.

        Raises: ModelError if there is no ONNX form, or no onnxruntime.
        """
        folder = Path(find_model_folder(location))
        if not has_onnx(folder):
            raise ModelError(f"{location}: has no ONNX form; make one with `python evaluate.py --model {location} --export onnx`")
        return cls.open(folder, folder / ONNX_FOLDER)

    @classmethod
    def open(cls, folder: Path, onnx_folder: Path) -> "OnnxPredictor":
        """Return the predictor of a model folder and the ONNX form that lies in `onnx_folder`."""
        try:
            import onnxruntime
        except ImportError:
            raise ModelError("--backend onnx: onnxruntime is not installed: pip install -r requirements-onnx.txt") from None
        from tokenizers import Tokenizer

        sidecar, rule = read_sidecar(str(folder))
        try:
            about = json.loads((onnx_folder / ONNX_ABOUT).read_text(encoding="utf-8"))
            form, pad_token_id = f"ONNX {about['form']}", about["pad_token_id"]
            session = onnxruntime.InferenceSession(onnx_folder / ONNX_FILE, providers=["CPUExecutionProvider"])
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # onnxruntime and tokenizers raise kinds of their own
            raise ModelError(f"{onnx_folder}: cannot be read ({str(error).splitlines()[0]}); export it again") from None
        tokenizer.enable_truncation(sidecar.max_length)
        tokenizer.no_padding()
        return cls(session, tokenizer, LabelSet(sidecar.labels), rule, sidecar, form, pad_token_id)

    def predict(self, texts: list[str], description: str | None = None) -> np.ndarray:
        """Return calibrated probabilities, float32 (n, L), in the order of `texts`; `description` shows a progress bar."""
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-self.predict_logits(texts, description)))

    def predict_logits(self, texts: list[str], description: str | None = None) -> np.ndarray:
        """Return the calibrated logits, float32 (n, L)."""
        from tqdm import tqdm

        token_ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        logits = np.zeros((len(texts), len(self.label_set)), dtype=np.float32)
        with tqdm(total=len(texts), desc=description, disable=description is None, unit="text", leave=False) as progress:
            for rows in batch_by_tokens(np.array([len(ids) for ids in token_ids]), BATCH_TOKENS):
                input_ids, attention_mask = pad_rows(token_ids, rows, self.pad_token_id)
                (logits[rows],) = self.session.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})
                progress.update(len(rows))
        return logits


def has_onnx(folder: Path, form: str | None = None) -> bool:
    """Whether a model folder holds an ONNX form (of the kind `fp32` or `int8`, if given)."""
    about = folder / ONNX_FOLDER / ONNX_ABOUT
    return about.is_file() and (form is None or json.loads(about.read_text(encoding="utf-8"))["form"] == form)
