"""The same answers without torch: a model's ONNX form on ONNX Runtime, ready in a second. The only user of onnxruntime."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.errors import ModelError
from emotion.inference.light_predictor import LightPredictor, load_tokenizer
from emotion.inference.sidecar import find_model_folder, read_sidecar
from emotion.labels import LabelSet
from emotion.training.cores import count_cores

MOST_AT_ONCE = 2
"""Batches that are answered at the same time."""
ONNX_FOLDER, ONNX_FILE, ONNX_ABOUT = "onnx", "model.onnx", "about.json"


@dataclass(frozen=True)
class OnnxPredictor(LightPredictor):
    """A trained model in its ONNX form."""

    session: Any

    batch_tokens = 384

    @property
    def num_at_once(self) -> int:
        return min(MOST_AT_ONCE, count_threads())

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
        sidecar, rule = read_sidecar(str(folder))
        try:
            about = json.loads((onnx_folder / ONNX_ABOUT).read_text(encoding="utf-8"))
            form, pad_token_id = f"ONNX {about['form']}", about["pad_token_id"]
            options = onnxruntime.SessionOptions()
            # Those that ask compute as well; all together they are as many as may.
            options.intra_op_num_threads = max(count_threads() - MOST_AT_ONCE + 1, 1)
            session = onnxruntime.InferenceSession(onnx_folder / ONNX_FILE, options, providers=["CPUExecutionProvider"])
            tokenizer = load_tokenizer(folder, sidecar.max_length)
        except Exception as error:  # onnxruntime and tokenizers raise kinds of their own
            raise ModelError(f"{onnx_folder}: cannot be read ({str(error).splitlines()[0]}); export it again") from None
        return cls(tokenizer, LabelSet(sidecar.labels), rule, sidecar, form, pad_token_id, session)

    def answer(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})[0]


def count_threads() -> int:
    """Return how many threads may compute: OMP_NUM_THREADS, as torch has it, or the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else count_cores()


def has_onnx(folder: Path, form: str | None = None) -> bool:
    """Whether a model folder holds an ONNX form (of the kind `fp32` or `int8`, if given)."""
    about = folder / ONNX_FOLDER / ONNX_ABOUT
    return about.is_file() and (form is None or json.loads(about.read_text(encoding="utf-8"))["form"] == form)
