"""Which predictor answers for a model: torch's, or one that starts without it. Torch is imported only where it answers."""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emotion.errors import ModelError
from emotion.inference.numpy_predictor import NumpyPredictor, has_numpy
from emotion.inference.onnx_predictor import OnnxPredictor, has_onnx
from emotion.inference.sidecar import find_model_folder

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor
    from emotion.inference.torch_free import TorchFreePredictor


def load_predictor(location: str, backend: str, is_brief: bool = False) -> "Predictor | TorchFreePredictor":
    """Return the predictor of a run folder, model folder or Hub id; `backend` is `torch`, `onnx`, `numpy` or `auto`.

    `auto` takes numpy where it knows the model and `is_brief` says that a few texts are all; otherwise an ONNX form, if there is one
    in fp32. Both answer the same as torch to 1e-3 of a logit. A form that fails its self-check gives way to torch, with a message.
    int8 has to be asked for.

    Raises: ModelError if it is not a model of this project, or has not the form that is asked for.
    """
    folder = Path(find_model_folder(location))
    if backend == "numpy" or (backend == "auto" and is_brief and has_numpy(folder)):
        return NumpyPredictor.load(location)
    is_ready = has_onnx(folder, "fp32") and importlib.util.find_spec("onnxruntime") is not None
    if backend == "onnx" or (backend == "auto" and is_ready):
        try:
            return OnnxPredictor.load(location)
        except ModelError as error:
            if backend == "onnx":
                raise
            print(f"onnx: {error}; torch answers instead", file=sys.stderr)
    from emotion.inference.predictor import Predictor

    return Predictor.load(location)
