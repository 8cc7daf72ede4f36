"""Estimate the memory of a run from the backbone's architecture, without loading its weights."""

from dataclasses import dataclass, replace
from typing import Any

from emotion.config import LoraConfig, ModelConfig
from emotion.labels import LabelSet
from emotion.modeling.architectures import ARCHITECTURES
from emotion.modeling.backbones import get_base_model_name, init_empty_model, load_architecture, locate_backbone
from emotion.modeling.build import check_checkpointing, check_length, choose_dtype
from emotion.modeling.emoji import find_missing_emoji
from emotion.modeling.heads import list_head_modules
from emotion.modeling.lora import attach_lora, count_parameters
from emotion.modeling.quantization import POOLER, has_four_bit_form, is_linear, is_quantizable
from emotion.modeling.tokenization import load_backbone_tokenizer

NF4_BYTES = 0.5
"""Bytes per weight in 4 bits, without scales."""
SCALE_BYTES = {True: 1 / 64 + 4 / (64 * 256), False: 4 / 64}
"""Bytes per weight for the scales of NF4, with and without double quantization. Source: Dettmers et al. 2023, "QLoRA", section 3."""


@dataclass(frozen=True)
class Footprint:
    """Numbers of parameters, and bytes on one device."""

    num_parameters: int
    num_trainable: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    flops_per_token: float = 0.0
    """Floating-point operations that training takes per token, without attention between tokens."""
    width: int = 1
    """Width of the layers."""

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations

    def shard(self, num_shards: int) -> "Footprint":
        """Return what one device stores of a sharded model; the layer that is gathered for its computation comes on top."""
        parts = {name: getattr(self, name) / num_shards for name in ("weights", "gradients", "optimizer")}
        return replace(self, **parts)


def estimate_footprint(
    config: ModelConfig,
    lora: LoraConfig,
    label_set: LabelSet,
    precision: str,
    num_rows: int,
    num_tokens: int,
    max_length: int | None = None,
) -> Footprint:
    """Return what training takes on one device with micro-batches of `num_rows` texts of `num_tokens` tokens, cut at `max_length`.

    For the backbones in `architectures.py` nothing is downloaded; for any other Hub id, only its config.

    Raises: ModelError if the backbone's config cannot be loaded, ConfigError if it has no positions for `max_length` tokens.
    """
    from accelerate import init_empty_weights

    is_known = config.backbone in ARCHITECTURES
    location = config.backbone if is_known else locate_backbone(config)
    shape_only = ModelConfig(config.backbone, config.revision, random_weights=is_known)
    architecture = load_architecture(location, shape_only, label_set, pad_token_id=0)
    if config.emoji_tokens and not is_known and (missing := find_missing_emoji(load_backbone_tokenizer(config, location))):
        architecture.vocab_size += len(missing)
    model = init_empty_model(architecture)
    if config.gradient_checkpointing:
        check_checkpointing(model, location)
    if max_length is not None:
        check_length(model, max_length)
    model.tie_weights()  # T5 has one embedding, not three
    head_modules = list_head_modules(model)
    quantized = (
        _list_quantized_weights(model, [*head_modules, POOLER, *(model._keep_in_fp32_modules or ())])
        if config.quantization != "none"
        else set()
    )
    if lora.r:
        with init_empty_weights():
            model = attach_lora(model, lora, head_modules, get_base_model_name(config), config.revision)
    num_parameters, num_trainable = count_parameters(model)
    frozen_bytes = choose_dtype(precision, is_frozen=lora.r > 0).itemsize
    activation_bytes = 4 if precision == "fp32" else 2
    return Footprint(
        num_parameters=num_parameters,
        num_trainable=num_trainable,
        weights=_sum_weight_bytes(model, quantized, frozen_bytes, config.double_quantization),
        gradients=4 * num_trainable,
        optimizer=8 * num_trainable,
        activations=estimate_activations(architecture, num_rows * num_tokens, activation_bytes, config.gradient_checkpointing),
        flops_per_token=count_flops(model, config.gradient_checkpointing),
        width=(getattr(architecture, "text_config", None) or architecture).hidden_size,
    )


def count_flops(model: Any, is_checkpointed: bool) -> float:
    """Return the floating-point operations per token of one training step: of the matrix products with weights only.

    Each weight of a linear layer takes 2 in the forward pass and 2 for the gradient of its input; 2 more for its own gradient if it is
    trained, and 2 more where the forward pass is repeated. Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", 2.1.
    """
    weights = [module.weight for module in model.modules() if is_linear(module)]
    return float(sum((4 + 2 * weight.requires_grad + 2 * is_checkpointed) * weight.numel() for weight in weights))


def estimate_activations(architecture: Any, num_tokens: int, num_bytes: int, is_checkpointed: bool) -> float:
    """Return the bytes stored for the backward pass of `num_tokens` tokens, with `num_bytes` per element.

    Per token and layer: 17 h elements for an MLP of width 4 h, without attention matrices. A gated MLP of width f stores 4 f, not 2 f.
    With checkpointing: h elements per layer, and one layer in full. Source: Korthikanti et al. 2022, "Reducing Activation Recomputation in
    Large Transformer Models", section 4.1.
    """
    architecture = getattr(architecture, "text_config", None) or architecture
    hidden_size, num_layers = architecture.hidden_size, architecture.num_hidden_layers
    is_gated = hasattr(architecture, "num_key_value_heads")
    mlp_width = getattr(architecture, "intermediate_size", None) or getattr(architecture, "hidden_dim", None) or 4 * hidden_size
    per_layer = 9 * hidden_size + (4 if is_gated else 2) * mlp_width
    stored = num_layers * hidden_size + per_layer if is_checkpointed else num_layers * per_layer
    return float(num_tokens * num_bytes * stored)


def _sum_weight_bytes(model: Any, quantized: set[str], frozen_bytes: int, is_double_quantized: bool) -> float:
    """Return the bytes of all weights: trainable ones in float32, frozen ones in 4 bits if quantized, otherwise in `frozen_bytes` each."""
    total = 0.0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            total += 4 * parameter.numel()
        elif _strip_adapter_names(name) in quantized:
            total += (NF4_BYTES + SCALE_BYTES[is_double_quantized]) * parameter.numel()
        else:  # what stays in full precision of a 4-bit model is float32
            total += (4 if quantized else frozen_bytes) * parameter.numel()
    return total


def _list_quantized_weights(model: Any, skipped_modules: list[str]) -> set[str]:
    """Return the names of the weights that NF4 stores in 4 bits."""
    linear_layers = [name for name, module in model.named_modules() if has_four_bit_form(module)]
    return {f"{name}.weight" for name in linear_layers if is_quantizable(name, skipped_modules)}


def _strip_adapter_names(name: str) -> str:
    """Return the name that a parameter has in the model without adapters."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
