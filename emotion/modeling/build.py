"""`build_model`: load -> quantise -> adapt -> head, and the way back from a saved folder. Both read as a recipe.

Nothing outside this folder knows whether weights are frozen, adapted or in 4 bits.
"""

import hashlib
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from emotion.config import BASELINE, LoraConfig, ModelConfig
from emotion.errors import ConfigError, ModelError
from emotion.labels import LabelSet
from emotion.modeling.backbones import (
    load_architecture,
    load_own_tokenizer,
    load_tokenizer,
    locate_backbone,
    official_name,
    translate_loading_errors,
    without_deprecations,
)
from emotion.modeling.baseline import load_baseline
from emotion.modeling.lora import attach_lora, is_adapted, load_adapter, merge_adapters, strip_adapters
from emotion.modeling.quantization import build_quantization, dequantize, disable_avx512_repacking, is_quantized, quantize_random

MIN_FREQUENCY = 1e-3
"""Label frequencies are kept this far from 0 and 1, so that the head's bias stays within +-6.9."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FINGERPRINT_ROWS = 256

log = logging.getLogger(__name__)


def build_model(
    config: ModelConfig, lora: LoraConfig, label_set: LabelSet, label_frequencies: np.ndarray, precision: str = "fp32"
) -> tuple[Any, Any]:
    """Return (model, tokenizer) with a fresh native multi-label head; `label_frequencies` is (L,), in [0, 1].

    `precision` is the autocast type of training: `fp32`, `bf16` or `fp16`. Whatever is trained is held in float32.

    Raises: ModelError if the backbone cannot be had, or not in this form.
    """
    location = locate_backbone(config)
    tokenizer = load_own_tokenizer(config, location)
    model = load_with_head(location, config, label_set, tokenizer.pad_token_id, precision, is_frozen=lora.r > 0)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise ModelError(f"{location}: its tokenizer knows {len(tokenizer):,} tokens, its embeddings fewer: they do not belong together")
    set_head_bias(model, label_frequencies)
    if lora.r:
        model = attach_lora(model, lora, list_head_modules(model), official_name(config), config.revision)
    if config.gradient_checkpointing:
        with without_deprecations():
            strip_adapters(model).gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    keep_trained_in_float32(model)
    return model, tokenizer


def load_trained(
    folder: str, config: ModelConfig, label_set: LabelSet, precision: str, is_adapter: bool, revision: str | None = None
) -> tuple[Any, Any]:
    """Return (model in evaluation mode, tokenizer) of a folder or Hub id that a run has saved.

    An adapter's backbone is loaded as it was for training: quantised the same way, in the same type.

    Raises: ModelError if it cannot be loaded or its head is missing.
    """
    if config.backbone == BASELINE:
        return load_baseline(folder, len(label_set), revision)
    if is_adapter:
        base, tokenizer = _load_base(folder, config, label_set, precision, revision)
        model = load_adapter(base, folder, revision)
        keep_head_in_float32(model)
    else:
        model, tokenizer = _load_full(folder, revision), load_tokenizer(folder, revision)
    return model.eval(), tokenizer


def load_merged(folder: str, config: ModelConfig, label_set: LabelSet, revision: str | None = None) -> Any:
    """Return the plain model, in evaluation mode and float32, that an adapter and its backbone make together.

    A 4-bit backbone is dequantised first: quantising the merged weights again would move the logits.
    """
    base, _ = _load_base(folder, config, label_set, "fp32", revision)
    if is_quantized(base):
        with translate_loading_errors(folder):
            base = dequantize(base)
    return merge_adapters(load_adapter(base, folder, revision)).eval()


def choose_dtype(precision: str, is_frozen: bool) -> torch.dtype:
    """Return the type that weights are held in: the autocast type if they are frozen, float32 if they are trained.

    A bf16 weight of 0.02 does not move in 50 AdamW steps at 2e-5.
    """
    return DTYPES[precision] if is_frozen else torch.float32


def check_length(model: Any, max_length: int) -> None:
    """Hold `data.max_length` to what the backbone has positions for.

    Raises: ConfigError if it is more.
    """
    settings = strip_adapters(model).config
    limit = getattr(settings, "max_position_embeddings", None)
    if limit is not None and "roberta" in settings.model_type:
        limit -= 2  # its positions are counted from behind the pad token's
    if limit is not None and max_length > limit:
        raise ConfigError(f"data.max_length={max_length}: the backbone has positions for at most {limit} tokens")


def load_with_head(location: str, config: ModelConfig, label_set: LabelSet, pad_token_id: int, precision: str, is_frozen: bool) -> Any:
    """Return the backbone (its linear layers in 4 bits if asked) under its own, newly initialised, classification head.

    Raises: ModelError for a backbone that is quantised already, that fp16 cannot hold, or whose weights are not all there.
    """
    from transformers import AutoModelForSequenceClassification

    architecture = load_architecture(location, config, label_set, pad_token_id)
    refuse_quantized(architecture, location)
    if precision == "fp16" and architecture.dtype == torch.bfloat16:
        raise ModelError(f"{location}: its weights are bf16, whose range fp16 lacks; set training.precision=bf16, or fp32")
    dtype = choose_dtype(precision, is_frozen)
    attention = _choose_attention(config, architecture, dtype)
    quantization = build_quantization(config, list_head_modules(init_empty_model(architecture)), compute_dtype=dtype)
    if config.random_weights:
        model = _make_random(architecture, quantization, dtype, attention)
    else:
        with translate_loading_errors(location):
            # A checkpoint with a head of another size would otherwise stop here; ours is new in any case.
            model, report = AutoModelForSequenceClassification.from_pretrained(
                location,
                config=architecture,
                revision=config.revision or "main",
                dtype=dtype,
                quantization_config=quantization,
                attn_implementation=attention,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        _check_report(report, model, location)
    disable_avx512_repacking(model)
    head = find_head(model)
    nn.init.normal_(head.weight, std=getattr(architecture, "initializer_range", 0.02))
    if head.bias is not None:
        nn.init.zeros_(head.bias)
    return model


def refuse_quantized(architecture: Any, location: str) -> None:
    """Raise a ModelError for a checkpoint that is quantised already."""
    if getattr(architecture, "quantization_config", None):
        raise ModelError(f"{location}: is quantised already; give the full-precision backbone and let model.quantization=nf4 quantise it")


def init_empty_model(architecture: Any, **options: Any) -> Any:
    """Return the model of a transformers config without any memory for its weights."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForSequenceClassification

    with init_empty_weights(include_buffers=False):
        return AutoModelForSequenceClassification.from_config(architecture, **options)


def find_head(model: Any) -> nn.Linear:
    """Return the last linear layer: hidden size -> labels."""
    num_labels = model.config.num_labels
    heads = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == num_labels]
    if not heads:
        raise ModelError(f"{type(model).__name__}: has no linear layer with {num_labels} outputs to serve as its head")
    return heads[-1]


def list_head_modules(model: Any) -> list[str]:
    """Return the names of the modules beside the backbone that hold parameters, such as `pre_classifier` and `classifier`."""
    return sorted({name.partition(".")[0] for name in list_head_parameters(model)})


def list_head_parameters(model: Any) -> set[str]:
    """Return the names of the parameters outside the backbone, those that start untrained; adapters are part of the backbone."""
    backbone = ("base_model.model." if is_adapted(model) else "") + strip_adapters(model).base_model_prefix + "."
    return {name for name, _ in model.named_parameters() if not name.startswith(backbone)}


def set_head_bias(model: Any, label_frequencies: np.ndarray) -> None:
    """Set the head's bias, where it has one, to the log-odds of each label's frequency.

    Training then starts from the base rates instead of p = .5 for all. Source: Lin et al. 2017, RetinaNet, section 4.1.
    """
    head = find_head(model)
    if head.bias is None:
        return
    frequencies = np.clip(label_frequencies, MIN_FREQUENCY, 1 - MIN_FREQUENCY)
    with torch.no_grad():
        head.bias.copy_(torch.from_numpy(np.log(frequencies / (1 - frequencies))))


def keep_trained_in_float32(model: Any) -> None:
    """Cast every parameter that is trained to float32."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def keep_head_in_float32(model: Any) -> None:
    """Cast the head to float32, as it was trained."""
    names = list_head_parameters(model)
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.data = parameter.data.float()


@contextmanager
def divided_head(model: Any, temperature: float) -> Iterator[None]:
    """Divide the logits by a temperature inside the block, by way of the head's weights; afterwards they are as before.

    What is saved inside gives calibrated probabilities to every consumer, `transformers.pipeline` included.
    """
    parameters = list(find_head(model).parameters())
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter in parameters:
            parameter.div_(temperature)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def fingerprint_backbone(model: Any) -> str:
    """Return a SHA-256 of what stays of a backbone when it is frozen: its norms, its biases, the first rows of its embeddings.

    In bf16, so that it does not depend on the type that the weights are loaded in. It tells two backbones of one shape apart.
    """
    backbone = strip_adapters(model).base_model
    digest = hashlib.sha256()
    frozen = [value for name, value in backbone.named_parameters() if value.ndim == 1 and "lora_" not in name]
    for value in [*frozen, backbone.get_input_embeddings().weight[:FINGERPRINT_ROWS]]:
        digest.update(value.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def _load_base(folder: str, config: ModelConfig, label_set: LabelSet, precision: str, revision: str | None) -> tuple[Any, Any]:
    """Return the backbone that an adapter stands on, and the adapter's tokenizer."""
    tokenizer = load_tokenizer(folder, revision)
    config = replace(config, attention="auto")  # the kernel of training need not be on this machine
    return load_with_head(locate_backbone(config), config, label_set, tokenizer.pad_token_id, precision, is_frozen=True), tokenizer


def _load_full(folder: str, revision: str | None) -> Any:
    from transformers import AutoModelForSequenceClassification

    with translate_loading_errors(folder):
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, revision=revision or "main", dtype=torch.float32, output_loading_info=True
        )
    if report["missing_keys"]:
        raise ModelError(f"{folder}: weights are missing for {sorted(report['missing_keys'])}: this is not a trained classifier")
    return model


def _check_report(report: dict[str, Any], model: Any, location: str) -> None:
    """Hold what the checkpoint lacks to be the head, which is new in any case, and say a word about the rest.

    Raises: ModelError if weights of the backbone are missing or of another shape.
    """
    mismatched = {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}
    head = list_head_parameters(model)
    absent = (set(report["missing_keys"]) | mismatched) - head
    pooler = {name for name in absent if ".pooler." in name}
    if absent - pooler:
        names = sorted(absent - pooler)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ModelError(f"{location}: lacks weights of the backbone, {names[:3]}{more}: it is of another architecture, or damaged")
    if mismatched & head:
        log.warning("%s: its head is for other labels; a new one with %d labels takes its place", location, model.config.num_labels)
    if pooler:
        log.warning("%s: has no pooler; it starts from random weights, as the head does", location)


def _choose_attention(config: ModelConfig, architecture: Any, dtype: torch.dtype) -> str | None:
    """Return the kernel's name; None leaves the choice of sdpa or eager to transformers."""
    is_installed = importlib.util.find_spec("flash_attn") is not None
    is_usable = torch.cuda.is_available() and dtype != torch.float32
    if config.attention == "flash_attention_2" and not (is_installed and is_usable):
        reason = "needs the package flash-attn" if not is_installed else "needs a GPU, LoRA and training.precision=bf16"
        raise ModelError(f"model.attention=flash_attention_2: {reason}; auto takes the best that there is")
    if config.attention == "auto":
        is_supported = is_installed and is_usable and getattr(type(init_empty_model(architecture)), "_supports_flash_attn", False)
        return "flash_attention_2" if is_supported else None
    return config.attention


def _make_random(architecture: Any, quantization: Any, dtype: torch.dtype, attention: str | None) -> Any:
    """Return a model of random weights, on the GPU if there is one, without ever holding a second copy."""
    from transformers import AutoModelForSequenceClassification

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options = {"dtype": dtype} | ({"attn_implementation": attention} if attention is not None else {})
    if quantization is None:
        with device:
            return AutoModelForSequenceClassification.from_config(architecture, **options)
    model = quantize_random(init_empty_model(architecture, **options), quantization, device)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                value = torch.empty(parameter.shape, dtype=dtype, device=device)
                value = value.normal_(std=0.02) if value.ndim > 1 else value.fill_(float(name == "weight"))
                setattr(module, name, nn.Parameter(value))
    return model.to(device)
