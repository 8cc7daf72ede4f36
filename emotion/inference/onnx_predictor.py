"""Run the ONNX model of a model folder on ONNX Runtime, without torch. The only module that imports onnxruntime to predict.

An ONNX model is checked each time it is loaded: `about.json` stores a few texts, torch's logits for them, and how far the ONNX model's
may be from those. The check fails on a CPU that computes int8 differently, with a damaged file, and with the graph of another model.
"""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.checks import Rules, check_values, is_number, read_object
from emotion.cpu.machine import count_cores, name_cpu
from emotion.errors import ModelError
from emotion.inference.sidecar import find_model_folder, fingerprint_weights, read_sidecar
from emotion.inference.torch_free import PAD_TOKEN_ID, TorchFreePredictor, load_tokenizer
from emotion.labels import LabelSet
from emotion.text import describe_error

MAX_CONCURRENT_BATCHES = 2
CHECK_TEXTS = (
    "Thank you so much, you saved my day!",
    "I can't believe they cancelled it again. Typical.",
    "My hands are shaking, the results come tomorrow.",
    "What do you mean, they moved the meeting to tonight?",
    "I was wrong and I am sorry, I should have called you.",
    "Best. Game. Ever!!! 🎉",
    "The train leaves at ten from platform four.",
    "ok",
)
"""Texts of the self-check: a few milliseconds."""
INT8_MARGIN = 2.0
"""How many times its own quantization error an int8 model may be from torch. Rounding in the 7th digit, as it differs between CPUs, moved
the error of a MiniLM by a factor of 1.2 at most; 16-bit sums that saturate made it 2.7 times as large."""
ONNX_FOLDER, ONNX_FILE, ONNX_ABOUT = "onnx", "model.onnx", "about.json"
REMEDY = "restore the file or export the model again"
RULES: Rules = {
    "precision": ("fp32 or int8", lambda value: value in ("fp32", "int8")),
    "pad_token_id": PAD_TOKEN_ID,
    "weights": ("a string or null", lambda value: value is None or isinstance(value, str)),
    "self_check": ("a JSON object", lambda value: isinstance(value, dict)),
}
SELF_CHECK_RULES: Rules = {
    "texts": ("a list of texts", lambda value: isinstance(value, list) and all(isinstance(text, str) for text in value)),
    "logits": ("a list", lambda value: isinstance(value, list)),
    "max_rms_difference": ("a number of at least 0", lambda value: is_number(value, 0, sys.float_info.max)),
}
"""What `about.json` may hold."""


@dataclass(frozen=True)
class OnnxPredictor(TorchFreePredictor):
    """A trained model as an ONNX Runtime session."""

    session: Any

    batch_tokens = 384

    @property
    def num_concurrent_batches(self) -> int:
        return min(MAX_CONCURRENT_BATCHES, count_threads())

    @classmethod
    def load(cls, location: str) -> "OnnxPredictor":
        """Return the predictor of a run folder or model folder that holds an ONNX model.

        Raises: ModelError if there is no ONNX model, it fails its self-check on this CPU, or onnxruntime is not installed.
        """
        folder = Path(find_model_folder(location))
        if not has_onnx(folder):
            raise ModelError(f"{location}: has no ONNX model; create one with `{_export_command(location)}`")
        predictor = cls.open(folder, folder / ONNX_FOLDER)
        predictor.check(read_about(folder / ONNX_FOLDER), location)
        return predictor

    @classmethod
    def open(cls, folder: Path, onnx_folder: Path) -> "OnnxPredictor":
        """Return the predictor of a model folder with the ONNX model in `onnx_folder`, without its self-check."""
        try:
            import onnxruntime
        except ImportError:
            raise ModelError("--backend onnx: onnxruntime is not installed: pip install -r requirements-onnx.txt") from None
        (sidecar, rule), about = read_sidecar(str(folder)), read_about(onnx_folder)
        label_set = LabelSet(sidecar.labels)
        try:
            backend_name, pad_token_id = f"ONNX {about['precision']}", about["pad_token_id"]
            options = onnxruntime.SessionOptions()
            # The threads that submit batches compute too: together they are as many as allowed.
            options.intra_op_num_threads = max(count_threads() - MAX_CONCURRENT_BATCHES + 1, 1)
            session = onnxruntime.InferenceSession(onnx_folder / ONNX_FILE, options, providers=["CPUExecutionProvider"])
            tokenizer = load_tokenizer(folder, sidecar)
            if isinstance(num_outputs := session.get_outputs()[0].shape[-1], int):  # else the graph leaves it open
                label_set.check_outputs(num_outputs, str(onnx_folder))
        except ModelError:
            raise
        except Exception as error:  # onnxruntime and tokenizers raise their own types
            raise ModelError(f"{onnx_folder}: cannot be read ({describe_error(error)}); export it again") from None
        return cls(tokenizer, label_set, rule, sidecar, backend_name, pad_token_id, session)

    def check(self, about: dict[str, Any], location: str) -> None:
        """Compare the fingerprint of the folder's weights, and the logits of the stored texts, with the stored ones.

        Raises: ModelError if the weights are others, the logits differ by more than the stored bound, or an int8 model stores none.
        """
        fingerprint = fingerprint_weights(location)
        is_int8 = about["precision"] == "int8"
        advice = f"export it again with `{_export_command(location)}{' --int8' if is_int8 else ''}`"
        if about.get("weights", fingerprint) != fingerprint:
            raise ModelError(f"{location}: its ONNX model was exported from other weights than the folder holds now; {advice}")
        if "self_check" not in about:
            if is_int8:
                raise ModelError(f"{location}: its int8 ONNX model was exported by an older version and has no self-check; {advice}")
            return
        try:
            stored = about["self_check"]
            difference = compute_rms(self.predict_logits(list(stored["texts"])) - np.array(stored["logits"], dtype=np.float32))
            bound = float(stored["max_rms_difference"])
        except Exception as error:  # the graph of another model makes onnxruntime raise its own types
            raise ModelError(f"{location}: its ONNX model fails its self-check ({describe_error(error)}); {advice}") from None
        if not difference <= bound:
            raise ModelError(
                f"{location}: its {self.backend_name} model fails its self-check: its logits are {difference:.4f} (root mean square) from "
                f"torch's, at most {bound:.4f} is allowed, on this CPU ({name_cpu()}); its files do not belong together, or this CPU "
                f"computes int8 differently: {advice}, or use --backend torch"
            )

    def compute_logits(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})[0]


def count_threads() -> int:
    """Return the number of threads for computing: OMP_NUM_THREADS, as for torch, or the cores available to this process."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() and int(value) > 0 else count_cores()


def make_self_check(predictor: OnnxPredictor, reference: np.ndarray, max_difference: float | None) -> dict[str, Any]:
    """Return what `OnnxPredictor.check` compares: texts, torch's logits, and how far the ONNX model's may be from them.

    `reference` are torch's logits of `CHECK_TEXTS`, float32 (n, L). The bound is `max_difference`, or, if that is None (int8),
    `INT8_MARGIN` times how far the ONNX model is from torch here.
    """
    error = compute_rms(predictor.predict_logits(list(CHECK_TEXTS)) - reference)
    bound = INT8_MARGIN * error if max_difference is None else max_difference
    return {"texts": CHECK_TEXTS, "logits": reference.tolist(), "max_rms_difference": bound}


def compute_rms(values: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def read_about(onnx_folder: Path) -> dict[str, Any]:
    """Return what `about.json` says of an ONNX model: `precision` (`fp32` or `int8`), `pad_token_id`, `self_check`.

    Raises: ModelError if it is damaged.
    """
    path = onnx_folder / ONNX_ABOUT
    about = read_object(path, REMEDY)
    if "form" in about:  # the key of older versions
        about["precision"] = about.pop("form")
    check_values(about, RULES, f"{path}: ", REMEDY, optional=("weights", "self_check"))
    if "self_check" in about:
        check_values(about["self_check"], SELF_CHECK_RULES, f"{path}: self_check.", REMEDY)
    return about


def has_onnx(folder: Path, precision: str | None = None) -> bool:
    """Return whether a model folder holds an ONNX model, of the given precision (`fp32` or `int8`) if there is one.

    One with a damaged `about.json` counts for any precision: loading it reports what is wrong.
    """
    about = folder / ONNX_FOLDER / ONNX_ABOUT
    try:
        return about.is_file() and (precision is None or read_about(about.parent)["precision"] == precision)
    except ModelError:
        return True


def _export_command(location: str) -> str:
    return f"python export.py --model {shlex.quote(location)} --onnx"
