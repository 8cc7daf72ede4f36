"""NF4 quantization: the linear layers of a frozen backbone in 4 bits. The only module that imports bitsandbytes.

Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3.
"""

import importlib.util
from typing import Any

import torch
from torch import nn

from emotion.config import ModelConfig
from emotion.errors import ModelError

POOLER = "pooler.dense"
"""The layer between an encoder and its head; like the head, it stays in full precision."""


def build_quantization(config: ModelConfig, head_modules: list[str], compute_dtype: torch.dtype) -> Any:
    """Return the argument of `from_pretrained(quantization_config=...)`: NF4 with products in `compute_dtype`, or None.

    `head_modules` are not quantized; the library's own list of exceptions lacks BERT's `classifier`.

    Raises: ModelError if bitsandbytes is not installed.
    """
    if config.quantization == "none":
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("model.quantization=nf4: needs bitsandbytes: pip install -r requirements.txt, or set model.quantization=none")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=config.double_quantization,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=[*head_modules, POOLER],
    )


def is_linear(module: nn.Module) -> bool:
    """Return whether a module is a linear layer: torch's, or GPT-2's, whose class says Conv1D."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def has_four_bit_form(module: nn.Module) -> bool:
    """Return whether bitsandbytes replaces a module: torch's or GPT-2's linear layer, and no subclass, such as Falcon's."""
    from transformers.pytorch_utils import Conv1D

    return type(module) in (nn.Linear, Conv1D)


def is_quantizable(name: str, skipped_modules: list[str]) -> bool:
    """Return whether NF4 applies to the linear layer of this name: it is neither one of `skipped_modules` nor inside one."""
    return not any(name == module or name.startswith(f"{module}.") or name.endswith(f".{module}") for module in skipped_modules)


def is_quantized(model: Any) -> bool:
    """Return whether a model has 4-bit layers."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def check_quantized(model: Any, location: str) -> None:
    """Check that a model that was asked for in 4 bits has a layer in 4 bits: bitsandbytes passes over subclasses, such as Falcon's.

    Raises: ModelError if it has none.
    """
    if not any(hasattr(module, "quant_state") for module in model.modules()):
        raise ModelError(
            f"{location}: model.quantization=nf4 finds no layer of {type(model).__name__} to store in 4 bits; set model.quantization=none"
        )


def count_weights(module: nn.Module, parameter: torch.Tensor) -> int:
    """Return how many weights a module's parameter stores; in 4 bits they are more than its elements."""
    state = getattr(module, "quant_state", None)
    if state is not None and parameter is module.weight:
        return int(state.shape.numel())
    return parameter.numel()


def disable_avx512_repacking(model: Any) -> None:
    """Keep 4-bit layers in the layout that they are trained in.

    On a CPU with AVX512-BF16, bitsandbytes would repack them at the first prediction, for products in bf16, and use that layout in training
    from then on; layers narrower than a block of 64 weights crash there.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def init_random_nf4_layers(model: Any, quantization: Any, device: torch.device) -> Any:
    """Return a model from the `meta` device with random NF4 weights on `device`, made layer by layer, so that the whole never exists there.

    Linear layers outside the head are quantized from N(0, 0.02^2). What stays in full precision is left on `meta`.
    """
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear) or not is_quantizable(name, quantization.llm_int8_skip_modules):
            continue
        weight = torch.randn(module.out_features, module.in_features, dtype=quantization.bnb_4bit_compute_dtype, device=device) * 0.02
        layer = Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=quantization.bnb_4bit_compute_dtype,
            compress_statistics=quantization.bnb_4bit_use_double_quant,
            quant_type="nf4",
            device="meta",
        )
        layer.weight = Params4bit(
            weight, requires_grad=False, compress_statistics=quantization.bnb_4bit_use_double_quant, quant_type="nf4"
        ).to(device)
        layer.quant_state = layer.weight.quant_state  # a sharded weight finds it here
        model.set_submodule(name, layer)
    model.is_loaded_in_4bit = True
    model.config.quantization_config = quantization
    return model


def dequantize(model: Any) -> Any:
    """Return the model with each 4-bit layer replaced by a plain layer of the same values, in float32."""
    model = model.dequantize(dtype=torch.float32)
    model.is_loaded_in_4bit = False
    for attribute in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, attribute):
            delattr(model.config, attribute)
    return model
