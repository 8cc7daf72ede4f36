"""A GGUF file as backbone: converted once by transformers to a model folder in the cache. The only module that reads GGUF."""

import hashlib
import importlib.util
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from emotion.errors import ModelError
from emotion.files import hash_samples
from emotion.modeling.packaged import EXTRA, assemble
from emotion.text import describe_error

SUFFIX = ".gguf"
SPLIT_NAME = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
DTYPES = {"F32": torch.float32, "F16": torch.float16}
"""By the type of most matrices: the dtype that holds their values; quantized ones are held in bfloat16."""


def locate_gguf(path: Path) -> Path:
    """Return the model folder of a GGUF file, from the cache if the file has been converted before.

    Raises: ModelError if the file is missing, damaged, split, or of an architecture that transformers does not convert.
    """
    if not path.is_file():
        raise ModelError(f"model.backbone={path}: no such file")
    if SPLIT_NAME.search(path.name):
        raise ModelError(f"{path}: is one part of a split file; join the parts first: llama-gguf-split --merge FIRST_PART JOINED.gguf")
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"{path}: is not a GGUF file")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{path}: reading GGUF files needs the package gguf: {EXTRA}")
    return assemble(f"{path.stem}-{fingerprint_file(path)}", lambda folder: write_model_folder(path, folder))


def fingerprint_file(path: Path) -> str:
    """Return a SHA-256 of the size and of samples of a file; it takes milliseconds for any size."""
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    hash_samples(digest, path)
    return digest.hexdigest()[:16]


def write_model_folder(path: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file as a folder of transformers, without the language model's head.

    Raises: ModelError if the file is damaged, or of an architecture that transformers does not convert.
    """
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from emotion.modeling.backbones import NO_REMOTE_CODE

    source: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    dtype = _choose_dtype(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source, **NO_REMOTE_CODE)
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype, use_safetensors=True, **NO_REMOTE_CODE)
    except Exception as error:  # of many types
        reason = describe_error(error)
        raise ModelError(f"{path}: transformers cannot convert it ({reason}); give a file of a Llama, Mistral, Qwen or Gemma") from None
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if not name.startswith("lm_head.")}
    config = model.config
    config.__dict__.pop("quantization_config", None)
    config.dtype = dtype
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _choose_dtype(path: Path) -> torch.dtype:
    """Return the dtype for the values of a GGUF file. Raises: ModelError if the file is damaged."""
    from gguf import GGUFReader

    try:
        tensors = GGUFReader(path).tensors
    except Exception as error:  # of many types
        raise ModelError(
            f"{path}: cannot be read ({describe_error(error)}); the file is damaged or incomplete, download it again"
        ) from None
    types = Counter(tensor.tensor_type.name for tensor in tensors if len(tensor.shape) > 1)
    return DTYPES.get(max(types, key=lambda name: types[name], default=""), torch.bfloat16)
