"""LoRA adapters: small trainable matrices beside frozen layers. The only module that imports peft.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch

from emotion.config import LoraConfig
from emotion.errors import ModelError
from emotion.modeling.backbones import silence_deprecations, translate_loading_errors
from emotion.modeling.embeddings import find_word_embedding
from emotion.modeling.quantization import count_weights, is_linear, is_quantized
from emotion.text import describe_error

ADAPTER_WEIGHTS = "adapter_model.safetensors"
FINGERPRINT_ROWS = 256
"""Rows of the embedding matrix that enter a backbone's fingerprint."""


def attach_lora(model: Any, config: LoraConfig, head_modules: list[str], base_name: str, revision: str | None) -> Any:
    """Return the model with its backbone frozen, new adapters in it, and its head trained in full.

    `head_modules` are the head's top-level modules; by default peft trains only those named `classifier` or `score`.
    `base_name` and `revision` are what the adapter's own config names as its base.

    Raises: ModelError if no layer has one of the names in `lora.target_modules`.
    """
    import peft
    from transformers.pytorch_utils import Conv1D

    linear_layers = list_linear_layers(model.base_model)
    if not linear_layers:
        raise ModelError(f"lora.r={config.r}: {type(model).__name__} has no linear layers for adapters; set lora.r=0")
    classes = {type(module) for module in model.base_model.modules() if is_linear(module)}
    settings = peft.LoraConfig(
        task_type="SEQ_CLS",
        modules_to_save=head_modules,
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules or linear_layers),
        fan_in_fan_out=classes == {Conv1D},  # GPT-2's layers have their weights transposed
    )
    try:
        with silence_deprecations():
            adapted = peft.get_peft_model(freeze_backbone(model), settings)
    except (TypeError, ValueError) as error:
        reason = describe_error(error)
        raise ModelError(
            f"lora.target_modules={config.target_modules}: {reason}; the backbone's linear layers are {linear_layers}"
        ) from None
    targeted = [f".{name}" for name in adapted.targeted_module_names]
    if unknown := [name for name in config.target_modules or () if not any(path.endswith(f".{name}") for path in targeted)]:
        raise ModelError(f"lora.target_modules: no layer has the name {unknown[0]!r}; the backbone's linear layers are {linear_layers}")
    settings.base_model_name_or_path, settings.revision = base_name, revision
    settings.target_modules = sorted(settings.target_modules)  # peft makes it a set, which is saved in another order each time
    return adapted


def list_linear_layers(backbone: Any) -> list[str]:
    """Return the last parts of the names of a backbone's linear layers, such as `query`, sorted; the names that adapters go by.

    peft's own "all-linear" includes DistilBERT's `pre_classifier`, which is part of its head, and fails. Where another module has the same
    last part, such as CTRL's `ffn.0` and its layer 0, the whole name stands.
    """
    modules = {name: is_linear(module) for name, module in backbone.named_modules()}
    others = {name.rpartition(".")[2] for name, is_layer in modules.items() if not is_layer}
    layers = [(name, name.rpartition(".")[2]) for name, is_layer in modules.items() if is_layer]
    return sorted({name if last in others else last for name, last in layers})


def load_adapter(model: Any, folder: str, revision: str | None) -> Any:
    """Return the base model with the adapters and the head of a folder or Hub id, all of it frozen.

    Raises: ModelError if they do not fit the model, or some of its adapters or of their weights have no counterpart.
    """
    import peft
    from huggingface_hub import hf_hub_download
    from safetensors import safe_open

    with translate_loading_errors(folder), silence_deprecations():
        warnings.filterwarnings("ignore", "Found missing adapter keys")  # peft would go on with new adapters in their place
        path = Path(folder) / ADAPTER_WEIGHTS
        if not Path(folder).is_dir():  # raises if there are pickled weights only, which peft would read
            path = Path(hf_hub_download(folder, ADAPTER_WEIGHTS, revision=revision))
        adapted = peft.PeftModel.from_pretrained(freeze_backbone(model), folder, revision=revision)
        needed = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
        with safe_open(path, "pt") as stored:
            unmatched = sorted(needed.symmetric_difference(stored.keys()))
    if unmatched:
        raise ModelError(
            f"{folder}: {ADAPTER_WEIGHTS} and the model that adapter_config.json describes differ in {len(unmatched)} weights, such as "
            f"{unmatched[0]!r}; restore the files that belong together, or train again"
        )
    return adapted


def freeze_backbone(model: Any) -> Any:
    """Freeze all parameters and return the model; norms and embeddings of a 4-bit model become float32, in training and in loading."""
    if is_quantized(model):
        import peft

        return peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return model.requires_grad_(False)


def is_adapted(model: Any) -> bool:
    """Return whether a model has adapters."""
    return hasattr(model, "peft_config")


def strip_adapters(model: Any) -> Any:
    """Return the transformers model inside a peft model, or the model itself."""
    return model.get_base_model() if is_adapted(model) else model


def merge_adapters(model: Any) -> Any:
    """Return a plain transformers model whose weights include the adapters' products."""
    return model.merge_and_unload()


def count_parameters(model: Any) -> tuple[int, int]:
    """Return the numbers of all parameters and of trainable parameters.

    A 4-bit weight counts as one, although two share a byte. The frozen copy of the head that peft keeps does not count.
    """
    counts = [
        (count_weights(model.get_submodule(name.rpartition(".")[0]), parameter), parameter)
        for name, parameter in model.named_parameters()
        if ".original_module." not in name
    ]
    return sum(count for count, _ in counts), sum(count for count, parameter in counts if parameter.requires_grad)


def fingerprint_backbone(model: Any) -> str:
    """Return a SHA-256 that tells two backbones of the same architecture apart, so that an adapter is not loaded onto another one.

    It covers the parameters that no variant changes (norms, biases, the first rows of the embeddings), in bfloat16, so that it does not
    depend on the dtype or the quantization of the loaded weights.
    """
    backbone = strip_adapters(model).base_model
    embedding = find_word_embedding(backbone)
    digest = hashlib.sha256()
    vectors = [value for name, value in backbone.named_parameters() if value.ndim == 1 and "lora_" not in name]
    for value in [*vectors, *([] if embedding is None else [embedding.weight[:FINGERPRINT_ROWS]])]:
        digest.update(value.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
