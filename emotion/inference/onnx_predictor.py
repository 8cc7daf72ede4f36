"""The same answers without torch: a model's ONNX form on ONNX Runtime, ready in a second. The only user of onnxruntime.

A form is checked wherever it is opened: `about.json` holds a few texts, the logits that the form gave for them when it was accepted, and
how far it may be from those. A CPU that computes int8 otherwise, a damaged file and a graph of another model are refused by it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.cpu.machine import count_cores, name_cpu
from emotion.errors import ModelError
from emotion.inference.sidecar import find_model_folder, read_sidecar
from emotion.inference.torch_free import TorchFreePredictor, load_tokenizer
from emotion.labels import LabelSet

MOST_AT_ONCE = 2
"""Batches that are answered at the same time."""
CHECK_TEXTS = (
    "Thank you so much, you saved my day!",
    "I can't believe they cancelled it again. Typical.",
    "My hands are shaking, the results come tomorrow.",
    "ok",
)
"""Texts that a form is checked with where it is opened: two short batches of a few milliseconds."""
ONNX_FOLDER, ONNX_FILE, ONNX_ABOUT = "onnx", "model.onnx", "about.json"


@dataclass(frozen=True)
class OnnxPredictor(TorchFreePredictor):
    """A trained model in its ONNX form."""

    session: Any

    batch_tokens = 384

    @property
    def num_at_once(self) -> int:
        return min(MOST_AT_ONCE, count_threads())

    @classmethod
    def load(cls, location: str) -> "OnnxPredictor":
        """Return the predictor of a run or model folder that `evaluate.py --export onnx` was called for.

        Raises: ModelError if there is no ONNX form, if it does not pass its self-check on this CPU, or without onnxruntime.
        """
        folder = Path(find_model_folder(location))
        if not has_onnx(folder):
            raise ModelError(f"{location}: has no ONNX form; make one with `python evaluate.py --model {location} --export onnx`")
        predictor = cls.open(folder, folder / ONNX_FOLDER)
        predictor.check(read_about(folder / ONNX_FOLDER), location)
        return predictor

    @classmethod
    def open(cls, folder: Path, onnx_folder: Path) -> "OnnxPredictor":
        """Return the predictor of a model folder and the ONNX form that lies in `onnx_folder`; it is not checked."""
        try:
            import onnxruntime
        except ImportError:
            raise ModelError("--backend onnx: onnxruntime is not installed: pip install -r requirements-onnx.txt") from None
        sidecar, rule = read_sidecar(str(folder))
        try:
            about = read_about(onnx_folder)
            form, pad_token_id = f"ONNX {about['form']}", about["pad_token_id"]
            options = onnxruntime.SessionOptions()
            # Those that ask compute as well; all together they are as many as may.
            options.intra_op_num_threads = max(count_threads() - MOST_AT_ONCE + 1, 1)
            session = onnxruntime.InferenceSession(onnx_folder / ONNX_FILE, options, providers=["CPUExecutionProvider"])
            tokenizer = load_tokenizer(folder, sidecar.max_length)
        except Exception as error:  # onnxruntime and tokenizers raise kinds of their own
            raise ModelError(f"{onnx_folder}: cannot be read ({str(error).splitlines()[0]}); export it again") from None
        return cls(tokenizer, LabelSet(sidecar.labels), rule, sidecar, form, pad_token_id, session)

    def check(self, about: dict[str, Any], location: str) -> None:
        """Compute the stored texts again and compare with the stored logits.

        Raises: ModelError if they differ by more than the stored bound, or an int8 form has none.
        """
        again = f"export it again with `python evaluate.py --model {location} --export onnx{' --int8' if about['form'] == 'int8' else ''}`"
        if "self_check" not in about:
            if about["form"] == "int8":
                raise ModelError(f"{location}: its int8 form was made by an older version and holds no self-check; {again}")
            return
        try:
            stored = about["self_check"]
            difference = np.abs(self.predict_logits(list(stored["texts"])) - np.array(stored["logits"], dtype=np.float32)).max()
            bound = float(stored["max_logit_difference"])
        except Exception as error:  # a graph of another model fails in onnxruntime, with a kind of its own
            raise ModelError(f"{location}: its ONNX form fails its self-check ({str(error).splitlines()[0][:200]}); {again}") from None
        if not difference <= bound:
            raise ModelError(
                f"{location}: its {self.form} form answers otherwise than when it was accepted: a logit differs by {difference:.4f} (at "
                f"most {bound:.4f}) on this CPU ({name_cpu()}); its files do not belong together, or this CPU computes int8 otherwise: "
                f"{again}, or use --backend torch"
            )

    def answer(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})[0]


def count_threads() -> int:
    """Return how many threads may compute: OMP_NUM_THREADS, as torch has it, or the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else count_cores()


def make_self_check(predictor: OnnxPredictor, reference: np.ndarray, max_difference: float | None) -> dict[str, Any]:
    """Return what `OnnxPredictor.check` compares: texts, the form's logits, and how far they may move.

    `reference` are torch's logits, float32 (n, L), of `CHECK_TEXTS`. The bound is `max_difference`; without one (int8) it is how far the
    form itself is from torch on these texts: rounding on another CPU moves a few of the quantised values, not all of them.
    """
    logits = predictor.predict_logits(list(CHECK_TEXTS))
    bound = float(np.abs(logits - reference).max()) if max_difference is None else max_difference
    return {"texts": CHECK_TEXTS, "logits": logits.tolist(), "max_logit_difference": bound}


def read_about(onnx_folder: Path) -> dict[str, Any]:
    """Return what an ONNX form says about itself: `form`, `pad_token_id`, `self_check`."""
    return dict(json.loads((onnx_folder / ONNX_ABOUT).read_text(encoding="utf-8")))


def has_onnx(folder: Path, form: str | None = None) -> bool:
    """Whether a model folder holds an ONNX form (of the kind `fp32` or `int8`, if given)."""
    about = folder / ONNX_FOLDER / ONNX_ABOUT
    return about.is_file() and (form is None or read_about(about.parent).get("form") == form)
