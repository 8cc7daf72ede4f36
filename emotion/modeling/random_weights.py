"""Random weights in a backbone's architecture, to measure speed and memory without downloading the real ones."""

from typing import Any

import torch
from torch import nn

from emotion.modeling.backbones import NO_REMOTE_CODE, init_empty_model
from emotion.modeling.quantization import init_random_nf4_layers


def build_random_model(architecture: Any, quantization: Any, dtype: torch.dtype, attention: str | None) -> Any:
    """Return a model with random weights, on the GPU if there is one; no second copy of the weights is ever in memory."""
    from transformers import AutoModelForSequenceClassification

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options = {"dtype": dtype} | ({"attn_implementation": attention} if attention is not None else {})
    if quantization is None:
        with device:
            return AutoModelForSequenceClassification.from_config(architecture, **options, **NO_REMOTE_CODE)
    model = init_random_nf4_layers(init_empty_model(architecture, **options), quantization, device)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                setattr(module, name, nn.Parameter(_draw(name, parameter.shape, dtype, device)))
    return model.to(device)


def _draw(name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return values for a parameter: matrices from N(0, 0.02^2); vectors are 1 for the weights of norms and 0 for biases."""
    value = torch.empty(shape, dtype=dtype, device=device)
    return value.normal_(std=0.02) if value.ndim > 1 else value.fill_(float(name == "weight"))
