"""Which predictor answers for a model: torch's, or the one of its ONNX form. Torch is imported only where it answers."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from emotion.inference.onnx_predictor import OnnxPredictor, has_onnx
from emotion.inference.sidecar import find_model_folder

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor


def load_predictor(location: str, backend: str) -> "Predictor | OnnxPredictor":
    """Return the predictor of a run folder, model folder or Hub id; `backend` is `torch`, `onnx` or `auto`.

    `auto` takes an ONNX form that is there in fp32: it answers the same to 1e-3 of a logit. int8 has to be asked for.

    Raises: ModelError if it is not a model of this project, or has no ONNX form when that is asked for.
    """
    folder = Path(find_model_folder(location))
    is_ready = has_onnx(folder, "fp32") and importlib.util.find_spec("onnxruntime") is not None
    if backend == "onnx" or (backend == "auto" and is_ready):
        return OnnxPredictor.load(location)
    from emotion.inference.predictor import Predictor

    return Predictor.load(location)
