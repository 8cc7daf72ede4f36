"""The classification head of a transformers model: find it, initialize it, and calibrate its logits.

The head is every module outside the backbone. Its last linear layer maps the hidden size to the labels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from emotion.errors import ModelError
from emotion.evaluation.calibration import Calibration
from emotion.modeling.lora import is_adapted, strip_adapters

MIN_BASE_RATE = 1e-3
"""Base rates are clipped to [0.001, 0.999], so that the initial bias stays within +-6.9."""


def find_head(model: Any) -> nn.Linear:
    """Return the last linear layer of the head: hidden size -> labels.

    Raises: ModelError if no linear layer has that many outputs.
    """
    num_labels = model.config.num_labels
    heads = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == num_labels]
    if not heads:
        raise ModelError(f"{type(model).__name__}: has no linear layer with {num_labels} outputs to use as its head; give another backbone")
    return heads[-1]


def list_head_modules(model: Any) -> list[str]:
    """Return the names of the top-level modules outside the backbone that have parameters, such as `pre_classifier` and `classifier`."""
    return sorted({name.partition(".")[0] for name in list_head_parameters(model)})


def list_head_parameters(model: Any) -> set[str]:
    """Return the names of the parameters outside the backbone, which start untrained; adapters count as part of the backbone."""
    backbone = ("base_model.model." if is_adapted(model) else "") + strip_adapters(model).base_model_prefix + "."
    return {name for name, _ in model.named_parameters() if not name.startswith(backbone)}


def init_head(model: Any) -> None:
    """Initialize the last linear layer as transformers does: weights from N(0, `initializer_range`^2), bias 0."""
    head = find_head(model)
    nn.init.normal_(head.weight, std=getattr(model.config, "initializer_range", 0.02))
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def set_head_bias(model: Any, base_rates: np.ndarray) -> None:
    """Set the head's bias, if it has one, to the log-odds of each label's base rate, (L,), in [0, 1].

    Training then starts from the base rates instead of p = 0.5 for all labels. Source: Lin et al. 2017, "Focal Loss", section 4.1.
    """
    head = find_head(model)
    if head.bias is None:
        return
    rates = np.clip(base_rates, MIN_BASE_RATE, 1 - MIN_BASE_RATE)
    with torch.no_grad():
        head.bias.copy_(torch.from_numpy(np.log(rates / (1 - rates))))


def cast_head_to_float32(model: Any) -> None:
    """Cast the parameters of the head to float32, the dtype in which they were trained."""
    names = list_head_parameters(model)
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.data = parameter.data.float()


@contextmanager
def calibrated_head(model: Any, calibration: Calibration) -> Iterator[None]:
    """Let the model's logits be calibrated inside the block, by the head's parameters; afterwards they are restored.

    A model saved inside the block gives calibrated probabilities to every consumer, `transformers.pipeline` included. A head without biases
    takes no shifts.
    """
    head = find_head(model)
    assert head.bias is not None or not calibration.shifts.any()
    parameters = list(head.parameters())
    originals = [parameter.detach().clone() for parameter in parameters]
    scales, shifts = (torch.from_numpy(values).to(head.weight) for values in (calibration.scales, calibration.shifts))
    with torch.no_grad():
        head.weight.mul_(scales[:, None])
        if head.bias is not None:
            head.bias.mul_(scales).add_(shifts)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, original in zip(parameters, originals, strict=True):
                parameter.copy_(original)
