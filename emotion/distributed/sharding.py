"""A model in shards, one a process, by PyTorch's `fully_shard` (FSDP2), and in one piece again for states and model folders.

Accelerate's own FSDP shards differently on GPUs and silently not at all on CPUs; here both do the same, and the arithmetic is that of a
model in one piece. A parameter in shards is a DTensor: to gather it, every process must call, in the same order.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from emotion.errors import TrainingError


def shard_model(model: Any, accelerator: Accelerator) -> Any:
    """Cut each layer of a model, and what is beside the layers, into as many shards as there are processes; return the same model.

    It goes to the device layer by layer, so no device holds it whole. In bf16, trained weights are sent in bf16 and their gradients added
    up in float32, as autocast does; frozen weights are sent as they are held.

    Raises: TrainingError for fp16: its loss scaler is not shown to agree between processes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    if accelerator.mixed_precision == "fp16":
        raise TrainingError("training.precision=fp16: is not supported for a sharded model; set training.precision=bf16, or fp32")
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
    return hasattr(model, "unshard")  # a method of FSDPModule, whose import takes half a second


def describe_shards(model: Any, accelerator: Accelerator) -> str:
    """Return a message on how many bytes of weights this process holds, of how many."""
    parameters = list(model.parameters())
    local = sum(value.to_local().nbytes for value in parameters)
    total = sum(math.prod(value.shape) * value.element_size() for value in parameters)
    return f"the model is in {accelerator.num_processes} shards: {local:,} of {total:,} bytes of weights are on this process (FSDP2)"


def prepare(model: Any, optimizer: Any, accelerator: Accelerator) -> tuple[Any, Any]:
    """Return model and optimizer ready for the loop: autocast, and what several processes need."""
    if is_sharded(model):
        model = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)  # autocast without DDP
        return model, accelerator.prepare(optimizer)
    model, optimizer = accelerator.prepare(model, optimizer)
    if accelerator.num_processes > 1:
        # A batch that is begun again for want of memory must not exchange anything with the others; no backbone has buffers that change.
        model.broadcast_buffers = False
    return model, optimizer


def gather(tensor: Any, accelerator: Accelerator) -> torch.Tensor:
    """Return a tensor in one piece: one in shards in main memory, and on the main process only, on the others an empty one."""
    if not hasattr(tensor, "full_tensor"):
        return tensor.detach()
    whole = tensor.detach().full_tensor()
    return whole.cpu() if accelerator.is_main_process else whole.new_empty(0)


def shard_like(whole: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Return a value of a parameter, or of its moments, that every process has in one piece, as the parameter is held: on its device, in
    shards if it is."""
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
            is_left = isinstance(module, nn.Linear) and parameter.ndim > 1 and not parameter.requires_grad
            if hasattr(parameter, "full_tensor") and not is_left:
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
