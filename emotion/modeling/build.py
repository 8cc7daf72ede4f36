"""Build a classifier: load the backbone -> quantize -> new head -> adapters; or load a trained one from its folder.

Nothing outside this package needs to know whether weights are frozen, adapted or in 4 bits.
"""

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emotion.checks import check_weights
from emotion.config import BASELINE, LoraConfig, ModelConfig
from emotion.errors import ConfigError, ModelError
from emotion.labels import LabelSet
from emotion.modeling.backbones import (
    NO_REMOTE_CODE,
    find_adapter_backbone,
    get_base_model_name,
    init_empty_model,
    load_architecture,
    locate_backbone,
    resolve_backbone,
    silence_deprecations,
    translate_loading_errors,
)
from emotion.modeling.baseline import load_baseline
from emotion.modeling.embeddings import add_pad_embedding, check_token_ids
from emotion.modeling.emoji import add_emoji
from emotion.modeling.heads import cast_head_to_float32, init_head, list_head_modules, list_head_parameters, set_head_bias
from emotion.modeling.limits import count_model_positions
from emotion.modeling.lora import attach_lora, load_adapter, merge_adapters, strip_adapters
from emotion.modeling.quantization import build_quantization, check_quantized, dequantize, disable_avx512_repacking, is_quantized
from emotion.modeling.random_weights import build_random_model
from emotion.modeling.tokenization import load_backbone_tokenizer, load_tokenizer
from emotion.modeling.trial import try_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

log = logging.getLogger(__name__)


def build_model(
    config: ModelConfig, lora: LoraConfig, label_set: LabelSet, base_rates: np.ndarray, precision: str = "fp32"
) -> tuple[Any, Any]:
    """Return (model, tokenizer) with a new native multi-label head; it starts from `base_rates`, probabilities (L,).

    `precision` is the autocast dtype of training: `fp32`, `bf16` or `fp16`. Trainable parameters are always float32.

    Raises: ModelError if the backbone cannot be loaded, or not with these settings.
    """
    location = locate_backbone(config)
    tokenizer = load_backbone_tokenizer(config, location)
    model = load_with_head(location, config, label_set, tokenizer.pad_token_id, precision, is_frozen=lora.r > 0)
    if config.gradient_checkpointing:
        check_checkpointing(model, location)
    if config.quantization != "none":
        check_quantized(model, location)
    if config.emoji_tokens and (num_emoji := add_emoji(model, tokenizer)):
        log.info("%s: %d emoji that its tokenizer does not know became tokens (model.emoji_tokens)", location, num_emoji)
    check_token_ids(model, tokenizer, location)
    try_model(model, tokenizer, location)
    set_head_bias(model, base_rates)
    if lora.r:
        model = attach_lora(model, lora, list_head_modules(model), resolve_backbone(get_base_model_name(config)), config.revision)
    if config.gradient_checkpointing:
        with silence_deprecations():
            strip_adapters(model).gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    cast_trainable_to_float32(model)
    return model, tokenizer


def load_trained(
    folder: str, config: ModelConfig, label_set: LabelSet, precision: str, is_adapter: bool, revision: str | None = None
) -> tuple[Any, Any]:
    """Return (model in evaluation mode, tokenizer) of a folder or Hub id saved by a run.

    The backbone of an adapter is loaded as in training, with the same quantization and dtype.

    Raises: ModelError if it cannot be loaded, or its head is missing.
    """
    if config.backbone == BASELINE:
        return load_baseline(folder, len(label_set), revision)
    if is_adapter:
        backbone, tokenizer = _load_adapter_backbone(folder, config, label_set, precision, revision)
        model = load_adapter(backbone, folder, revision)
        cast_head_to_float32(model)
    else:
        model, tokenizer = _load_full(folder, revision), load_tokenizer(folder, revision)
        label_set.check_outputs(model.config.num_labels, folder)
    check_token_ids(model, tokenizer, folder)
    return model.eval(), tokenizer


def load_merged(folder: str, config: ModelConfig, label_set: LabelSet, revision: str | None = None) -> Any:
    """Return a saved adapter merged into its backbone: a plain model in evaluation mode, in float32.

    A 4-bit backbone is dequantized first: quantizing the merged weights again would change the logits.
    """
    backbone, _ = _load_adapter_backbone(folder, config, label_set, "fp32", revision)
    if is_quantized(backbone):
        with translate_loading_errors(folder):
            backbone = dequantize(backbone)
    return merge_adapters(load_adapter(backbone, folder, revision)).eval()


def load_with_head(location: str, config: ModelConfig, label_set: LabelSet, pad_token_id: int, precision: str, is_frozen: bool) -> Any:
    """Return the backbone, quantized if `config` says so, with its own classification head, newly initialized.

    Raises: ModelError if the backbone is already quantized, does not fit into fp16, or lacks weights.
    """
    from transformers import AutoModelForSequenceClassification

    architecture = load_architecture(location, config, label_set, pad_token_id)
    if precision == "fp16" and architecture.dtype == torch.bfloat16:
        raise ModelError(f"{location}: its bf16 weights can exceed the range of fp16; set training.precision=bf16, or fp32")
    dtype = choose_dtype(precision, is_frozen)
    attention = _choose_attention(config, architecture, dtype)
    quantization = build_quantization(config, list_head_modules(init_empty_model(architecture)), compute_dtype=dtype)
    if config.random_weights:
        model = build_random_model(architecture, quantization, dtype, attention)
    else:
        with translate_loading_errors(location):
            model, report = AutoModelForSequenceClassification.from_pretrained(
                location,
                config=architecture,
                revision=config.revision or "main",
                dtype=dtype,
                quantization_config=quantization,
                attn_implementation=attention,
                ignore_mismatched_sizes=True,  # the checkpoint may have a head for other labels
                output_loading_info=True,
                use_safetensors=True,
                **NO_REMOTE_CODE,
            )
        _check_loading_report(report, model, location)
    add_pad_embedding(model, pad_token_id)
    disable_avx512_repacking(model)
    init_head(model)
    return model


def choose_dtype(precision: str, is_frozen: bool) -> torch.dtype:
    """Return the dtype that weights are stored in: the autocast dtype if they are frozen, float32 if they are trained.

    A bf16 weight of 0.02 does not move in 50 AdamW steps with a learning rate of 2e-5.
    """
    return DTYPES[precision] if is_frozen else torch.float32


def cast_trainable_to_float32(model: Any) -> None:
    """Cast all trainable parameters to float32."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def check_checkpointing(model: Any, location: str) -> None:
    """Raise a ModelError if transformers cannot recompute the activations of a model's layers, as of Flaubert's."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        remedy = "set it to false, and lower training.per_device_batch_size to save memory"
        raise ModelError(f"{location}: model.gradient_checkpointing=true: {type(model).__name__} does not support it; {remedy}")


def check_length(model: Any, max_length: int, name: str = "data.max_length") -> None:
    """Check that the backbone has positions for `max_length` tokens; `name` is the setting in an error message.

    Raises: ConfigError if it has fewer.
    """
    limit = count_model_positions(strip_adapters(model))
    if limit is not None and max_length > limit:
        raise ConfigError(f"{name}={max_length}: the backbone has positions for at most {limit} tokens; lower it")


def _load_adapter_backbone(folder: str, config: ModelConfig, label_set: LabelSet, precision: str, revision: str | None) -> tuple[Any, Any]:
    """Return the backbone that an adapter was trained on, and the adapter's tokenizer."""
    tokenizer = load_tokenizer(folder, revision)
    # The kernel used in training may be missing on this machine.
    config = replace(config, attention="auto", backbone=find_adapter_backbone(config.backbone, Path(folder)))
    try:
        return load_with_head(locate_backbone(config), config, label_set, tokenizer.pad_token_id, precision, is_frozen=True), tokenizer
    except ModelError as error:
        raise ModelError(f"{folder}: the backbone of its adapter: {error}; if it is elsewhere, name it with --backbone PATH") from None


def _load_full(folder: str, revision: str | None) -> Any:
    from transformers import AutoModelForSequenceClassification

    with translate_loading_errors(folder):
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            revision=revision or "main",
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # its own error is a table in the log
            output_loading_info=True,
            use_safetensors=True,
            **NO_REMOTE_CODE,
        )
    check_weights(report["missing_keys"] | _list_mismatched(report), report["unexpected_keys"], folder)
    return model


def _list_mismatched(report: dict[str, Any]) -> set[str]:
    """Return the names of weights that have another shape in the model than in its file."""
    return {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}


def _check_loading_report(report: dict[str, Any], model: Any, location: str) -> None:
    """Check that the checkpoint lacks nothing but its head and pooler, and log which of them are new.

    Raises: ModelError if other weights of the backbone are missing or have another shape.
    """
    mismatched, head = _list_mismatched(report), list_head_parameters(model)
    absent = (set(report["missing_keys"]) | mismatched) - head
    pooler = {name for name in absent if ".pooler." in name}
    if absent - pooler:
        names = sorted(absent - pooler)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ModelError(f"{location}: lacks weights of the backbone, {names[:3]}{more}: it is damaged or has another architecture")
    if mismatched & head:
        log.warning("%s: its head has other labels; replaced by a new head with %d labels", location, model.config.num_labels)
    if pooler:
        log.warning("%s: has no pooler; a new one starts from random weights, as the head does", location)


def _choose_attention(config: ModelConfig, architecture: Any, dtype: torch.dtype) -> str | None:
    """Return the name of the attention kernel; with None, transformers chooses sdpa or eager."""
    is_installed = importlib.util.find_spec("flash_attn") is not None
    is_usable = torch.cuda.is_available() and dtype != torch.float32
    if config.attention == "flash_attention_2" and not (is_installed and is_usable):
        reason = "needs the package flash-attn" if not is_installed else "needs a GPU, LoRA and training.precision=bf16"
        raise ModelError(f"model.attention=flash_attention_2: {reason}; model.attention=auto takes the fastest available kernel")
    if config.attention == "auto":
        is_supported = is_installed and is_usable and getattr(type(init_empty_model(architecture)), "_supports_flash_attn", False)
        return "flash_attention_2" if is_supported else None
    return config.attention
