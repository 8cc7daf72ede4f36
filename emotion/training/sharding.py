"""The model in shards, one on each process, and whole again for states and model folders: by PyTorch's `fully_shard` (FSDP2) or DeepSpeed.

Accelerate would shard in its own way on GPUs and, without a word, not at all on CPUs: here it is the same on both, and arithmetic is
that of a model in one piece. What is DeepSpeed's (ZeRO-3) is in `zero.py`; otherwise a parameter in shards is a DTensor. To make it
whole, every process must call, in the same order.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from emotion.errors import TrainingError
from emotion.training import zero
from emotion.training.deferral import find_deferring


def shard_model(model: Any, accelerator: Accelerator, form: str | None) -> Any:
    """Return the same model in as many shards as there are processes, by FSDP2 or as `zero3`.

    Raises: TrainingError for fp16, whose scaler is not shown to agree between processes.
    """
    if accelerator.mixed_precision == "fp16":
        raise TrainingError("training.precision=fp16: is not for a sharded model; set training.precision=bf16, or fp32")
    return zero.shard_model(model, accelerator) if form == "zero3" else _shard_layers(model, accelerator)


def _shard_layers(model: Any, accelerator: Accelerator) -> Any:
    """Cut each layer of a model, and what is beside the layers, into shards (FSDP2).

    It goes to the device layer by layer, so no device holds it whole. In bf16, what is trained is sent in bf16 and its gradients are added
    up in float32, as autocast has it; frozen weights are sent as they are held.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    is_all_trained = all(parameter.requires_grad for parameter in model.parameters())
    policy = MixedPrecisionPolicy()
    if accelerator.mixed_precision == "bf16" and is_all_trained:  # otherwise autocast would keep a whole copy for the backward pass
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for module in [*reversed(layers), model]:
        # The outermost group too: after a forward without a backward, parameters would otherwise stay whole.
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    return model


def is_sharded(model: Any) -> bool:
    """Return whether a model is in shards."""
    return hasattr(model, "unshard") or zero.is_zero(model)  # FSDPModule's, whose import takes half a second


def describe_shards(model: Any, accelerator: Accelerator) -> str:
    """Return how many bytes of weights this process holds, of how many."""
    is_zero, parameters = zero.is_zero(model), list(model.parameters())
    local = sum((value.ds_tensor if is_zero else value.to_local()).nbytes for value in parameters)
    total = sum(math.prod(whole_shape(value)) * value.element_size() for value in parameters)
    return (
        f"the model is in {accelerator.num_processes} shards: {local:,} of {total:,} bytes of weights are here "
        f"({'ZeRO-3' if is_zero else 'FSDP2'})"
    )


def prepare(model: Any, optimizer: Any, accelerator: Accelerator, max_grad_norm: float) -> tuple[Any, Any]:
    """Return model and optimizer ready for the loop: autocast, and what several processes need."""
    if is_sharded(model):
        model = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)  # autocast without DDP
        if zero.is_zero(model):
            return zero.prepare(model, optimizer, accelerator, max_grad_norm)
        return model, accelerator.prepare(optimizer)
    model, optimizer = accelerator.prepare(model, optimizer)
    if accelerator.num_processes > 1:
        # A window that is begun anew for want of memory must not exchange anything with the others; no backbone has buffers that change.
        model.broadcast_buffers = False
    return model, optimizer


def backward(model: Any, loss: torch.Tensor, accelerator: Accelerator, is_last: bool) -> None:
    """Add the gradients of a micro-batch's loss to those of its window; `is_last` says that there are no more."""
    if zero.is_zero(model):
        zero.backward(model, loss, is_last)
    else:
        accelerator.backward(loss)


def clip_gradients(model: Any, optimizer: Any, accelerator: Accelerator, max_grad_norm: float) -> torch.Tensor:
    """Return the norm of the window's gradients, and clip them; DeepSpeed clips in its step, by the norm it was prepared with."""
    if isinstance(optimizer, zero.ZeroOptimizer):
        return optimizer.measure_norm()
    bound = max_grad_norm or float("inf")
    if (deferring := find_deferring(optimizer)) is not None:
        return deferring.clip_gradients(bound)
    norm: torch.Tensor = accelerator.clip_grad_norm_(model.parameters(), bound)
    return norm


def no_gradients(model: Any) -> AbstractContextManager[None]:
    """Return the context to predict in: a weight that DeepSpeed gathers there may stay for the next step, and must be fit for backward."""
    return torch.no_grad() if zero.is_zero(model) else torch.inference_mode()


def whole_shape(parameter: torch.Tensor) -> tuple[int, ...]:
    """Return the shape that a parameter has in one piece."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def is_in_shards(tensor: torch.Tensor) -> bool:
    """Return whether this process holds a share of a tensor only."""
    return hasattr(tensor, "full_tensor") or hasattr(tensor, "ds_id")


def gather(tensor: Any, accelerator: Accelerator) -> torch.Tensor:
    """Return a tensor in one piece; one in shards in main memory, and on the main process only: on the others an empty one."""
    if not is_in_shards(tensor):
        return tensor.detach()
    whole = zero.gather(tensor) if hasattr(tensor, "ds_id") else tensor.detach().full_tensor()
    return whole.cpu() if accelerator.is_main_process else whole.new_empty(0)


def gather_moments(parameter: nn.Parameter, optimizer: Any, accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Return what the optimizer keeps of a parameter, as `gather` does."""
    if isinstance(optimizer, zero.ZeroOptimizer):
        moments = optimizer.gather_moments(parameter)
        return {key: value.cpu() if accelerator.is_main_process else value.new_empty(0) for key, value in moments.items()}
    return {key: gather(value, accelerator) for key, value in optimizer.state[parameter].items()}


@torch.no_grad()
def put(whole: torch.Tensor, parameter: nn.Parameter) -> None:
    """Give a trained parameter a value, which every process has in one piece."""
    if hasattr(parameter, "ds_id"):
        zero.put(whole, parameter)
    else:
        parameter.copy_(_spread(whole, parameter))


def put_moment(whole: torch.Tensor, parameter: nn.Parameter, key: str, optimizer: Any) -> None:
    """Give the optimizer what it kept of a parameter, which every process has in one piece."""
    if isinstance(optimizer, zero.ZeroOptimizer):
        optimizer.put_moment(parameter, key, whole)
    else:
        optimizer.state[parameter][key] = _spread(whole, parameter)


def _spread(whole: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Return a whole value of a parameter, or of its moments, as the parameter is held: on its device, in shards if it is."""
    value = whole.to(parameter.device)
    if value.ndim == 0 or not hasattr(parameter, "full_tensor"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)  # every process has the whole


@contextmanager
def whole_weights(model: Any, accelerator: Accelerator) -> Iterator[None]:
    """Give the main process's model all weights in one piece inside the block, in main memory, for saving; every process must enter it.

    Frozen matrices of linear layers stay in shards: with adapters they are not saved. Nothing may be computed with the model meanwhile.
    """
    kept: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_left = isinstance(module, nn.Linear) and len(whole_shape(parameter)) > 1 and not parameter.requires_grad
            if is_in_shards(parameter) and not is_left:
                kept.append((module, name, parameter))
    try:
        for module, name, parameter in kept:
            whole = gather(parameter, accelerator)
            if accelerator.is_main_process:
                module._parameters[name] = nn.Parameter(whole, requires_grad=parameter.requires_grad)
        yield
    finally:
        for module, name, parameter in kept:
            module._parameters[name] = parameter
