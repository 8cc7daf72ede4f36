"""What moves the weights: parameter groups, AdamW, linear warm-up and decay."""

from typing import Any

import torch
from torch import nn

from emotion.config import TrainingConfig
from emotion.cpu import fast_path
from emotion.modeling.heads import list_head_parameters


def group_parameters(model: nn.Module, head_parameters: set[str], config: TrainingConfig) -> list[dict[str, Any]]:
    """Return AdamW's groups: backbone and head, each with and without decay; biases and norms do not decay."""
    head_rate = config.head_learning_rate if config.head_learning_rate is not None else config.learning_rate
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name in head_parameters, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": head_rate if is_head else config.learning_rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]


def build_optimizer(model: nn.Module, config: TrainingConfig, is_single_cpu: bool = False) -> torch.optim.AdamW:
    """Return AdamW for the trained parameters of a model; `is_single_cpu`: there is one process, on a CPU."""
    return fast_path.build_adamw(group_parameters(model, list_head_parameters(model), config), model, is_single_cpu)


def build_scheduler(optimizer: torch.optim.Optimizer, num_steps: int, warmup_ratio: float) -> torch.optim.lr_scheduler.LambdaLR:
    """Return linear warm-up to the peak and linear decay to 0, stepped once an optimizer step.

    The same as transformers' `get_linear_schedule_with_warmup`, whose module takes 3 s to import.
    """
    num_warmup = round(num_steps * warmup_ratio)

    def scale(step: int) -> float:
        if step < num_warmup:
            return step / num_warmup
        return max(0.0, (num_steps - step) / max(1, num_steps - num_warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
