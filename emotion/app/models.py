"""The models that a page serves, and the one that it takes if none is named."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from emotion.app.thresholds import ValidationRows
from emotion.errors import ConfigError
from emotion.inference.loading import load_predictor
from emotion.inference.onnx_predictor import has_onnx
from emotion.inference.sidecar import find_model_folder
from emotion.paths import expand_path
from emotion.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor
    from emotion.inference.torch_free import TorchFreePredictor

WARM_UP_TEXT = "a"


@dataclass(eq=False)
class ServedModel:
    """A model that answers, its run, and its validation rows if they are stored."""

    name: str
    """Name on the page and in the API; unique among the served models."""
    location: str
    """Run folder, model folder or Hub id."""
    backend: str
    predictor: "Predictor | TorchFreePredictor"
    """Answers texts."""
    run: RunFolder
    """Folder of the reports; it need not exist."""
    validation: ValidationRows | None
    _lock: Lock = field(default_factory=Lock, repr=False)
    _file_predictor: "Predictor | TorchFreePredictor | None" = None

    def load_file_predictor(self) -> "Predictor | TorchFreePredictor":
        """Return the predictor that scores files, loaded when the first file comes.

        numpy starts fastest, but torch and ONNX Runtime score many texts faster, so they replace it where they are installed.
        """
        with self._lock:
            if self._file_predictor is None:
                is_replaced = self.backend == "auto" and self.predictor.backend_name == "numpy" and self._has_faster_backend()
                self._file_predictor = load_predictor(self.location, "auto") if is_replaced else self.predictor
            return self._file_predictor

    def _has_faster_backend(self) -> bool:
        has_onnx_model = has_onnx(Path(find_model_folder(self.location)), "fp32")
        return find_spec("torch") is not None or (has_onnx_model and find_spec("onnxruntime") is not None)


def load_model(location: str, backend: str, name: str | None = None, backbone: str | None = None) -> ServedModel:
    """Return the model of a run folder, model folder or Hub id, ready to answer.

    `backend` and `backbone` are as in `load_predictor`; `auto` prefers the one that starts fastest.

    Raises: ModelError if it is not a model of this project or the backend does not support it.
    """
    predictor = load_predictor(location, backend, is_brief=True, backbone=backbone)
    predictor.predict([WARM_UP_TEXT])  # the first prediction allocates, and sets the tokenizer's truncation
    run = find_run(location)
    return ServedModel(name or _name_model(location), location, backend, predictor, run, read_validation(run, predictor.label_set.names))


def load_models(locations: list[str], backend: str, backbone: str | None = None) -> dict[str, ServedModel]:
    """Return the models of several locations by name; `backbone` is that of their adapters.

    Raises: ConfigError if a model is given twice; ModelError as `load_model`.
    """
    paths = [str(path.absolute()) if (path := expand_path(location)).is_dir() else location for location in locations]
    if len(set(paths)) < len(paths):
        raise ConfigError(f"--model: {', '.join(locations)}: give each model once")
    models: dict[str, ServedModel] = {}
    for location, absolute in zip(locations, paths, strict=True):
        name = next(name for name in (_name_model(location), location, absolute) if name not in models)
        models[name] = load_model(location, backend, name, backbone)
    return models


def find_run(location: str) -> RunFolder:
    """Return the folder that holds the model's reports: its run, or the model folder itself if it was copied out of one."""
    folder = Path(find_model_folder(location))
    is_in_run = folder.name == "model" and not (folder / "report").is_dir()
    return RunFolder(folder.parent if is_in_run else folder)


def read_validation(run: RunFolder, label_names: tuple[str, ...]) -> ValidationRows | None:
    """Return the validation rows that training stored; None if there are none, or they are of another model."""
    if not run.predictions("validation").is_file():
        return None
    rows = run.read_predictions("validation")
    is_same = rows.label_set.names == label_names
    return ValidationRows(label_names, rows.labels, rows.probabilities, rows.is_judged) if is_same else None


def _name_model(location: str) -> str:
    path = expand_path(location)
    resolved = path.resolve() if path.is_dir() else path
    return resolved.parent.name if resolved.name == "model" and resolved.parent.name else resolved.name or location
