"""Choose the backend that a model is run with. Torch is imported only if it is the one."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from emotion.errors import ConfigError, ModelError
from emotion.inference.numpy_predictor import NumpyPredictor, is_numpy_supported
from emotion.inference.onnx_predictor import OnnxPredictor, has_onnx
from emotion.inference.sidecar import find_model_folder
from emotion.text import print_message

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor
    from emotion.inference.torch_free import TorchFreePredictor


def load_predictor(location: str, backend: str, is_brief: bool = False, backbone: str | None = None) -> "Predictor | TorchFreePredictor":
    """Return the predictor of a run folder, model folder or Hub id; `backend` is `torch`, `onnx`, `numpy` or `auto`.

    `auto` chooses, in this order: numpy, if it supports the model and only a few texts are to be predicted (`is_brief`); an fp32 ONNX model
    in the folder, if onnxruntime is installed; torch. numpy and fp32 ONNX logits agree with torch's to 1e-3. If the ONNX model fails its
    self-check, `auto` prints a message and chooses torch. int8 ONNX models are used with `onnx` only. `backbone` is as in `Predictor.load`,
    and chooses torch.

    Raises: ModelError if it is not a model of this project, or does not support the backend; ConfigError for a `backbone` with another
        backend than torch.
    """
    if backbone is not None:
        if backend not in ("auto", "torch"):
            raise ConfigError(f"--backbone {backbone}: is for adapters, which --backend {backend} does not run; use --backend torch")
        backend = "torch"
    folder = Path(find_model_folder(location))
    if backend == "numpy" or (backend == "auto" and is_brief and is_numpy_supported(folder)):
        return NumpyPredictor.load(location)
    is_onnx_ready = has_onnx(folder, "fp32") and importlib.util.find_spec("onnxruntime") is not None
    if backend == "onnx" or (backend == "auto" and is_onnx_ready):
        try:
            return OnnxPredictor.load(location)
        except ModelError as error:
            if backend == "onnx":
                raise
            print_message(f"onnx: {error}; using torch instead")
    from emotion.inference.predictor import Predictor

    return Predictor.load(location, backbone=backbone)
