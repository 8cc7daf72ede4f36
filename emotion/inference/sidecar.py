"""Read `emotion.json`, the sidecar of a model folder: what loading needs and a Hugging Face folder does not contain.

Works without torch, so that the numpy and ONNX backends start fast.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

from emotion.config import ModelConfig
from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule

SIDECAR = "emotion.json"
FORMAT_VERSION = 1
NUM_SAMPLES, SAMPLE_BYTES = 64, 16_384
"""Samples of a weights file that its fingerprint covers."""


@dataclass(frozen=True)
class Sidecar:
    """The contents of `emotion.json` besides the decision rule."""

    labels: tuple[str, ...]
    model: ModelConfig
    """How the backbone was loaded; loading an adapter needs it again."""
    max_length: int
    """Tokens kept of a text."""
    precision: str
    """Autocast dtype in which the model was trained and its rule fitted: `fp32`, `bf16` or `fp16`."""
    validation: dict[str, float]
    """Validation scores at the time of saving."""
    fingerprint: str | None = None
    """Fingerprint of the backbone that an adapter belongs to; None for a full model."""

    @property
    def is_adapter(self) -> bool:
        return self.fingerprint is not None


def read_sidecar(location: str, revision: str | None = None) -> tuple[Sidecar, DecisionRule]:
    """Return the sidecar and the decision rule of a folder or Hub id.

    Raises: ModelError if the file is missing, damaged, or of a newer format.
    """
    path = _find_sidecar(location, revision)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["format_version"]
        if version != FORMAT_VERSION:
            raise ModelError(f"{path}: format_version is {version}, this version of the project reads {FORMAT_VERSION}; update the project")
        known = {field.name: values[field.name] for field in fields(Sidecar)}
        sidecar = Sidecar(**known | {"labels": tuple(known["labels"]), "model": ModelConfig(**known["model"])})
        decision = dict(values["decision"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read ({type(error).__name__}: {error}); save the model again") from None
    return sidecar, DecisionRule.from_dict(decision, len(sidecar.labels), str(path))


def find_model_folder(location: str) -> str:
    """Return the model folder of a run folder; a model folder or Hub id is returned as it is.

    Raises: ModelError if a path does not exist or contains no model.
    """
    path = Path(location).expanduser()
    if (path / "model" / SIDECAR).is_file():
        return str(path / "model")
    if path.is_dir():
        if not (path / SIDECAR).is_file():
            raise ModelError(f"--model {location}: holds no finished model (no model/{SIDECAR}); train one with train.py")
        return str(path)
    if location.count("/") != 1 or location.startswith((".", "/", "~", "runs/")):
        raise ModelError(f"--model {location}: no such folder; `ls runs` lists the runs")
    return location


def _find_sidecar(location: str, revision: str | None) -> Path:
    if Path(location).is_dir():
        path = Path(location) / SIDECAR
        if not path.is_file():
            raise ModelError(f"{location}: has no {SIDECAR}, so it was not saved by this project; train a model with train.py")
        return path
    from huggingface_hub import hf_hub_download

    from emotion.modeling.backbones import translate_loading_errors

    with translate_loading_errors(location):
        return Path(hf_hub_download(location, SIDECAR, revision=revision))


def fingerprint_weights(location: str) -> str | None:
    """Return a SHA-256 of the sizes and of samples of a model folder's weights, None for a Hub id; it takes milliseconds.

    It tells the weights of two trainings apart, which differ everywhere.
    """
    folder = Path(find_model_folder(location))
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as stream:
            for start in sorted({size * number // NUM_SAMPLES for number in range(NUM_SAMPLES)}):
                stream.seek(start)
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]
