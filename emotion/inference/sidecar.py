"""Read `emotion.json`, the sidecar of a model folder: what loading needs and a Hugging Face folder does not contain.

Works without torch, so that the numpy and ONNX backends start fast.
"""

import hashlib
import typing
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from emotion.checks import Rules, check_values, is_integer, is_number, read_object
from emotion.config import BASELINE, ModelConfig
from emotion.data.segments import find_stride_fault
from emotion.errors import DataError, ModelError
from emotion.evaluation.combination import COMBINATIONS, DEFAULT_COMBINATION, Combination
from emotion.evaluation.decision import DecisionRule
from emotion.files import hash_samples
from emotion.labels import LabelSet
from emotion.modeling.limits import count_positions
from emotion.paths import expand_path, is_hub_id

SIDECAR = "emotion.json"
FORMAT_VERSION, SEGMENTS_VERSION = 1, 2
"""The format of `emotion.json`, and that of a model that splits long texts: earlier versions would cut them, and refuse it."""
REMEDY = "restore the file or save the model again"
RULES: Rules = {
    "format_version": ("an integer", lambda value: is_integer(value, 0)),
    "labels": ("a list of two or more different names", lambda value: isinstance(value, list) and _are_names(value)),
    "model": ("a JSON object", lambda value: isinstance(value, dict)),
    "max_length": ("an integer of at least 4", lambda value: is_integer(value, 4)),
    "precision": ("fp32, bf16 or fp16", lambda value: value in ("fp32", "bf16", "fp16")),
    "validation": ("a JSON object", lambda value: isinstance(value, dict)),
    "fingerprint": ("a string or null", lambda value: value is None or isinstance(value, str)),
    "decision": ("a JSON object", lambda value: isinstance(value, dict)),
    "scripts": ("an object of numbers or null", lambda value: value is None or _are_fractions(value)),
    "segments": ("a JSON object or null", lambda value: value is None or isinstance(value, dict)),
}
"""What `emotion.json` may hold."""
SEGMENT_RULES: Rules = {
    "stride": ("an integer of at least 0", lambda value: is_integer(value, 0)),
    "combination": (" or ".join(COMBINATIONS), lambda value: value in COMBINATIONS),
}
"""What its key `segments` may hold."""
OPTIONAL = ("scripts", "segments")
"""Keys that earlier versions did not write."""
CONFIG_RULES: Rules = {
    "max_position_embeddings": ("an integer of at least -1", lambda value: value is None or is_integer(value, -1)),
    "model_type": ("a string", lambda value: isinstance(value, str)),
    "id2label": ("a JSON object", lambda value: isinstance(value, dict)),
    "vocab_size": ("an integer of at least 1", lambda value: value is None or is_integer(value, 1)),
}
"""What `config.json` of transformers may hold, of the keys that are read here."""


@dataclass(frozen=True)
class Segments:
    """How a text of more than `max_length` tokens is read: as overlapping segments, whose logits are combined."""

    stride: int
    """Tokens that neighboring segments share."""
    combination: Combination


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
    scripts: dict[str, float] | None = None
    """Fraction of the letters of the training texts by script, such as LATIN; None if it is not known."""
    segments: Segments | None = None
    """None if longer texts are cut."""

    @property
    def format_version(self) -> int:
        """The format in which the sidecar is written."""
        return FORMAT_VERSION if self.segments is None else SEGMENTS_VERSION

    @property
    def stride(self) -> int | None:
        """Tokens that the segments of a long text share; None if it is cut."""
        return None if self.segments is None else self.segments.stride

    @property
    def combination(self) -> Combination:
        """How the logits of segments are combined; of no effect where every text is one."""
        return DEFAULT_COMBINATION if self.segments is None else self.segments.combination

    @property
    def is_adapter(self) -> bool:
        return self.fingerprint is not None


def read_sidecar(location: str, revision: str | None = None) -> tuple[Sidecar, DecisionRule]:
    """Return the sidecar and the decision rule of a folder or Hub id.

    Raises: ModelError if the file is missing, damaged, or of a newer format.
    """
    path = _find_sidecar(location, revision)
    sidecar, rule = parse_sidecar(path)
    _check_config(read_config(Path(location)), sidecar, path)
    return sidecar, rule


def parse_sidecar(path: Path) -> tuple[Sidecar, DecisionRule]:
    """Return the contents of an `emotion.json` without comparing them with the `config.json` beside it.

    Raises: as `read_sidecar`.
    """
    values = read_object(path, REMEDY)
    check_values(values, {"format_version": RULES["format_version"]}, f"{path}: ", REMEDY)
    if (version := values["format_version"]) not in (FORMAT_VERSION, SEGMENTS_VERSION):
        known_versions = f"{FORMAT_VERSION} and {SEGMENTS_VERSION}"
        raise ModelError(f"{path}: format_version is {version}, this version of the project reads {known_versions}; update the project")
    check_values(values, RULES, f"{path}: ", REMEDY, optional=OPTIONAL)
    if (segments := values.get("segments")) is not None:
        check_values(segments, SEGMENT_RULES, f"{path}: segments.", REMEDY)
    rules = _describe_settings()
    check_values(values["model"], rules, f"{path}: model.", REMEDY, optional=rules)
    if unknown := values["model"].keys() - rules:
        raise ModelError(f"{path}: model.{min(unknown)!r}: is no known setting; {REMEDY}, or update the project")
    known: dict[str, Any] = {field.name: values.get(field.name) for field in fields(Sidecar)}
    if segments is not None:
        known["segments"] = Segments(**{name: segments[name] for name in SEGMENT_RULES})
    sidecar = Sidecar(**known | {"labels": tuple(known["labels"]), "model": ModelConfig(**known["model"])})
    if sidecar.segments is not None and sidecar.model.backbone == BASELINE:
        raise ModelError(f"{path}: segments: must be null for {BASELINE}, which reads a text as a whole; {REMEDY}")
    return sidecar, DecisionRule.from_dict(values["decision"], len(sidecar.labels), str(path))


def read_config(folder: Path) -> dict[str, Any]:
    """Return transformers' `config.json` of a model folder; an empty dict if there is none, as for an adapter.

    Raises: ModelError if it is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        return {}
    config = read_object(path, REMEDY)
    check_values(config, CONFIG_RULES, f"{path}: ", REMEDY, optional=CONFIG_RULES)
    return config


def find_model_folder(location: str) -> str:
    """Return the model folder of a run folder; a model folder or Hub id is returned as it is.

    Raises: ModelError if a path does not exist or contains no model.
    """
    path = expand_path(location)
    if (path / "model" / SIDECAR).is_file():
        return str(path / "model")
    if path.is_dir():
        if not (path / SIDECAR).is_file():
            raise ModelError(f"--model {location}: holds no finished model (no model/{SIDECAR}); train one with train.py")
        return str(path)
    if path.exists() or "/" not in location or not is_hub_id(location):  # on the Hub, a trained model is USER/NAME
        fault = "is a file, not a folder" if path.exists() else "no such folder"
        raise ModelError(f"--model {location}: {fault}; `ls runs` lists the runs")
    return location


def _are_names(values: list[Any]) -> bool:
    """Return whether values can be the names of a label set."""
    try:
        return all(isinstance(value, str) for value in values) and len(LabelSet(tuple(values))) > 0
    except DataError:
        return False


def _are_fractions(value: Any) -> bool:
    """Return whether a value is an object of numbers in [0, 1]."""
    return isinstance(value, dict) and all(is_number(fraction, 0, 1) for fraction in value.values())


def _describe_settings() -> Rules:
    """Return what each setting of `ModelConfig` may hold, from its type."""
    names = {str: "a string", bool: "true or false", type(None): "null"}
    return {
        name: (" or ".join(names.get(part, str(part)) for part in typing.get_args(hint) or (hint,)), partial(_has_type, hint))
        for name, hint in typing.get_type_hints(ModelConfig).items()
    }


def _has_type(hint: Any, value: Any) -> bool:
    """Return whether a value has the type of a setting, such as `str | None` or a `Literal`."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return value in arguments
    return any(_has_type(argument, value) for argument in arguments) if arguments else type(value) is hint


def _check_config(config: dict[str, Any], sidecar: Sidecar, path: Path) -> None:
    """Check that the model of a `config.json` has positions for `max_length` tokens and one output for each label."""
    positions = count_positions(config.get("max_position_embeddings"), config.get("model_type", ""))
    if positions is not None and sidecar.max_length > positions:
        raise ModelError(f"{path}: max_length={sidecar.max_length}: must be at most {positions}, the positions of the backbone; {REMEDY}")
    if "id2label" in config:
        LabelSet(sidecar.labels).check_outputs(len(config["id2label"]), str(path.parent))


def check_stride(sidecar: Sidecar, num_special: int, location: str) -> None:
    """Raise a ModelError if the segments of long texts would not go forward; a tokenizer adds `num_special` tokens to each."""
    fault = None if sidecar.stride is None else find_stride_fault(sidecar.stride, sidecar.max_length, num_special)
    if fault is not None:
        raise ModelError(f"{location}: {SIDECAR}: segments.stride={sidecar.stride}: {fault}; {REMEDY}")


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


def fingerprint_files(location: str) -> str | None:
    """Return a SHA-256 of a model folder's tokenizer and config files, None for a Hub id."""
    folder = Path(find_model_folder(location))
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix in (".json", ".txt", ".model") and path.name != SIDECAR:
            digest.update(f"{path.name} {path.stat().st_size}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def fingerprint_weights(location: str) -> str | None:
    """Return a SHA-256 of the sizes and of samples of a model folder's weights, None for a Hub id; it takes milliseconds.

    It tells the weights of two trainings apart, which differ everywhere.
    """
    folder = Path(find_model_folder(location))
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
        hash_samples(digest, path)
    return digest.hexdigest()[:16]
