"""What a model takes before it is loaded: parameters and bytes, from the architecture alone."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from emotion.config import LoraConfig, ModelConfig
from emotion.labels import LabelSet
from emotion.modeling.architectures import ARCHITECTURES
from emotion.modeling.backbones import load_architecture, locate_backbone, official_name
from emotion.modeling.build import choose_dtype, init_empty_model, list_head_modules, refuse_quantized
from emotion.modeling.lora import attach_lora, count_parameters
from emotion.modeling.quantization import POOLER, is_quantizable

SCALE_BYTES = {True: 1 / 64 + 4 / (64 * 256), False: 4 / 64}
"""Bytes of NF4's scales a weight, with and without double quantisation. Source: QLoRA (Dettmers et al. 2023), section 3."""


@dataclass(frozen=True)
class Footprint:
    """Counts of parameters, and bytes on one device."""

    parameters: int
    trained_parameters: int
    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations

    def shard(self, num_shards: int) -> "Footprint":
        """Return what a device holds of a model in shards, without the layer that it has in one piece while it computes it."""
        parts = {name: getattr(self, name) / num_shards for name in ("weights", "gradients", "optimizer")}
        return replace(self, **parts)


def estimate_footprint(
    config: ModelConfig, lora: LoraConfig, label_set: LabelSet, precision: str, num_rows: int, num_tokens: int
) -> Footprint:
    """Return what training takes on one device with micro-batches of `num_rows` texts of `num_tokens` tokens.

    Nothing is downloaded for the study's own backbones; of any other the config alone.

    Raises: ModelError if the backbone's config cannot be had.
    """
    from accelerate import init_empty_weights

    known = config.backbone in ARCHITECTURES
    location = config.backbone if known else locate_backbone(config)
    shape_only = ModelConfig(config.backbone, config.revision, random_weights=known)
    architecture = load_architecture(location, shape_only, label_set, pad_token_id=0)
    refuse_quantized(architecture, location)
    model = init_empty_model(architecture)
    head_modules = list_head_modules(model)
    quantized = _name_quantized(model, [*head_modules, POOLER]) if config.quantization != "none" else set()
    if lora.r:
        with init_empty_weights():
            model = attach_lora(model, lora, head_modules, official_name(config), config.revision)
    size = choose_dtype(precision, is_frozen=lora.r > 0).itemsize
    weights = 0.0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            weights += 4 * parameter.numel()
        elif _plain_name(name) in quantized:
            weights += (0.5 + SCALE_BYTES[config.double_quantization]) * parameter.numel()
        else:  # k-bit preparation holds what stays of a 4-bit backbone in float32
            weights += (4 if quantized else size) * parameter.numel()
    parameters, num_trained = count_parameters(model)
    return Footprint(
        parameters=parameters,
        trained_parameters=num_trained,
        weights=weights,
        gradients=4 * num_trained,
        optimizer=8 * num_trained,
        activations=estimate_activations(
            architecture, num_rows * num_tokens, 4 if precision == "fp32" else 2, config.gradient_checkpointing
        ),
    )


def estimate_activations(architecture: Any, num_tokens: int, size: int, is_checkpointed: bool) -> float:
    """Return the bytes kept for the backward pass of `num_tokens` tokens, in elements of `size` bytes.

    17 h elements a token and layer with an MLP of 4 h, attention matrices not kept; a gated MLP of width f keeps 4 f in place of 2 f.
    With checkpointing, h a layer and one layer in full. Source: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large
    Transformer Models", section 4.1.
    """
    hidden, layers = architecture.hidden_size, architecture.num_hidden_layers
    is_gated = hasattr(architecture, "num_key_value_heads")
    inner = getattr(architecture, "intermediate_size", None) or getattr(architecture, "hidden_dim", None) or 4 * hidden
    layer = 9 * hidden + (4 if is_gated else 2) * inner
    kept = layers * hidden + layer if is_checkpointed else layers * layer
    return float(num_tokens * size * kept)


def _name_quantized(model: Any, kept: list[str]) -> set[str]:
    """Return the names of the weights that NF4 would hold in 4 bits."""
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear) and is_quantizable(name, kept)}


def _plain_name(name: str) -> str:
    """Return a parameter's name as it is without adapters."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
