"""Locate a backbone and load its transformers config.

A backbone is a bundled model, a local folder, a GGUF file or a model on the Hub. `tokenization.py` loads its tokenizer, `build.py` its
weights.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from emotion.config import BASELINE, ModelConfig, find_last_part
from emotion.errors import EmotionError, ModelError
from emotion.files import is_disk_full
from emotion.hub import read_from_hub
from emotion.labels import LabelSet
from emotion.modeling.architectures import ARCHITECTURES
from emotion.modeling.gguf import SUFFIX, locate_gguf
from emotion.modeling.packaged import PREFIX, find_packaged, locate_packaged
from emotion.paths import expand_path, find_model_fault, is_hub_id
from emotion.text import describe_error

NO_REMOTE_CODE: dict[str, Any] = {"trust_remote_code": False}
"""For every Auto class. Without it transformers asks on stdin, where texts may come from, whether to run a model folder's code."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
CONVERT = "give a model with .safetensors weights, which save_pretrained of transformers writes"

BUNDLED_NAME = "bundled:all-MiniLM-L6-v2"
"""The backbone that is always installed."""


def locate_backbone(config: ModelConfig) -> str:
    """Return the folder or Hub id of a backbone.

    Raises: ModelError if a folder is missing, or the bundled package is missing or has other weights than the official ones.
    """
    if config.backbone.startswith(PREFIX):
        return str(locate_packaged(config.backbone))
    path = expand_path(config.backbone)
    if path.suffix.lower() == SUFFIX:
        return str(locate_gguf(path))
    if fault := find_model_fault(config.backbone):
        raise ModelError(f"model.backbone={config.backbone!r}: {fault}")
    return str(path) if path.is_dir() else config.backbone


def get_base_model_name(config: ModelConfig) -> str:
    """Return the name that adapters and model cards give as the base model: the Hub id of a bundled backbone, or the backbone itself."""
    packaged = find_packaged(config.backbone)
    return packaged.hub_id if packaged is not None else config.backbone


def resolve_backbone(name: str) -> str:
    """Return the absolute path of a backbone that is a local folder or file; any other name as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_dir() or path.is_file() else name


def is_local(name: str) -> bool:
    """Return whether a backbone is a file or folder, here or on the machine that trained a model: it exists, or cannot be another name."""
    if name == BASELINE or name.startswith(PREFIX):
        return False
    return not is_hub_id(name) or name.lower().endswith(SUFFIX) or expand_path(name).exists()


def hide_folders(name: str) -> str:
    """Return `./NAME` for a backbone that is a file or folder, without the folders of this machine around it; any other name as it is."""
    return f"./{find_last_part(name)}" if is_local(name) else name


def find_adapter_backbone(name: str, folder: Path) -> str:
    """Return the backbone of the adapter in a folder: as stored, or, if it was moved together with the run, where it is now.

    It is looked for in the folders around the adapter's, by the last parts of its stored path; of a name that can be a Hub id, by all.
    """
    stored = Path(name).expanduser()
    if stored.exists() or name.startswith(PREFIX) or not folder.is_dir():
        return name
    is_path = stored.is_absolute() or name.startswith(".") or name.count("/") > 1 or stored.suffix.lower() == SUFFIX
    parts = [part for part in stored.parts if part not in (stored.anchor, "..")]
    tails = [Path(*parts[start:]) for start in range(len(parts) if is_path else 1)]
    for path in (parent / tail for parent in folder.resolve().parents for tail in tails):
        if (path / "config.json").is_file() or (path.suffix.lower() == SUFFIX and path.is_file()):
            return str(path)
    return name


def load_architecture(location: str, config: ModelConfig, label_set: LabelSet, pad_token_id: int) -> Any:
    """Return the transformers config of a backbone with a multi-label head.

    With `config.random_weights`, the backbones in `architectures.py` need no file. A `pad_token_id` that is the first beyond the
    vocabulary is for `add_pad_embedding` to set.

    Raises: ModelError if it cannot be loaded, has no classification head, or belongs to a checkpoint that is already quantized.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoConfig

    head = {
        "num_labels": len(label_set),
        "id2label": label_set.id2label,
        "label2id": label_set.columns,
        "problem_type": "multi_label_classification",
        "use_cache": False,  # a classifier reads a text once; decoders would keep keys and values of every layer
    }
    if config.random_weights and location in ARCHITECTURES:
        return AutoConfig.for_model(**ARCHITECTURES[location], **head, pad_token_id=pad_token_id)
    with translate_loading_errors(location):
        architecture = AutoConfig.from_pretrained(location, revision=config.revision or "main", **head, **NO_REMOTE_CODE)
    if type(architecture) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{location}: transformers has no sequence-classification head for {architecture.model_type!r}; give a backbone that has one: "
            "docs/models.md lists them"
        )
    if getattr(architecture, "quantization_config", None):
        raise ModelError(f"{location}: is already quantized; give the full-precision backbone and set model.quantization=nf4")
    for settings in list_configs(architecture):
        vocab_size = getattr(settings, "vocab_size", None)
        if hasattr(settings, "pad_token_id") and (vocab_size is None or pad_token_id < vocab_size):
            settings.pad_token_id = pad_token_id
    return architecture


def list_configs(architecture: Any) -> list[Any]:
    """Return a transformers config and the configs of its parts, such as that of the text model beside an image model."""
    parts = [getattr(architecture, name, None) for name in getattr(architecture, "sub_configs", {})]
    return [architecture, *(part for part in parts if part is not None)]


def init_empty_model(architecture: Any, **options: Any) -> Any:
    """Return the model of a transformers config with its parameters on the `meta` device, where they take no memory."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForSequenceClassification

    with init_empty_weights(include_buffers=False):
        return AutoModelForSequenceClassification.from_config(architecture, **options, **NO_REMOTE_CODE)


@contextmanager
def silence_deprecations() -> Iterator[None]:
    """Silence the deprecation warnings that peft and transformers raise about each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def translate_loading_errors(location: str) -> Iterator[None]:
    """Turn what transformers and the Hub raise while loading into one `ModelError` that says what to do.

    Pickled weights are refused before anything is loaded. Where the Hub does not answer, its cache is read at once. Loading reports are
    silenced, because a new head is always reported; so are progress bars, except those of downloads.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
    from transformers.utils import logging as transformers_logging

    _refuse_pickled_weights(Path(location))
    verbosity, is_local = transformers_logging.get_verbosity(), Path(location).is_dir()
    transformers_logging.set_verbosity_error()
    if is_local:
        transformers_logging.disable_progress_bar()
    obstacle = None
    try:
        with nullcontext() if is_local else read_from_hub() as obstacle:
            yield
    except EmotionError:
        raise
    except Exception as error:  # of many types: a config.json of the wrong structure, for example, is an AttributeError
        if obstacle is not None and _is_caused_by(error, LocalEntryNotFoundError, OfflineModeIsEnabled):
            remedy = "check the name and the network, or give a local folder"
            raise ModelError(f"{location}: no such folder, and not in the cache of the Hub ({obstacle}); {remedy}") from None
        reason = describe_error(error, 300)
        raise ModelError(f"{location}: cannot be loaded: {_advise(error, is_local)} ({reason})") from None
    finally:
        transformers_logging.set_verbosity(verbosity)
        if is_local:
            transformers_logging.enable_progress_bar()


def _refuse_pickled_weights(folder: Path) -> None:
    """Raise a ModelError if the weights of a local folder are pickled only: reading a pickle can run code, reading safetensors cannot."""
    pickled = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLE_SUFFIXES)
    if pickled and not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: its weights are pickled ({pickled[0]}) and are not read, because a pickle can run code; {CONVERT}")


def _advise(error: Exception, is_local: bool) -> str:
    """Return what to do about an error while loading."""
    from huggingface_hub.errors import GatedRepoError

    if isinstance(error, torch.OutOfMemoryError):
        return "its weights do not fit into the device's memory; try model.quantization=nf4"
    if is_disk_full(error):
        return "no space left on the device for the download; free some, or set HF_HOME to a folder on another device"
    if is_local:
        return "the folder is not a complete model folder"
    if "safetensors" in str(error):
        return f"only safetensors are read; {CONVERT}"
    if _is_caused_by(error, GatedRepoError):
        return "accept its license on the Hub, then set HF_TOKEN"
    return "check the name and the network, or give a local folder"


def _is_caused_by(error: BaseException | None, *types: type[Exception]) -> bool:
    """Return whether an error, or one of its causes, is of one of the types."""
    return error is not None and (isinstance(error, types) or _is_caused_by(error.__cause__ or error.__context__, *types))
