"""The model in shards by DeepSpeed (ZeRO-3), whose engine does backward, clipping and step; the only user of deepspeed.

The engine is made here, not by Accelerate, so that it is the same on CPUs and GPUs; `sharding.py` alone calls this. A parameter in
shards has no elements between its uses: its shape and this process's share are kept with it (`ds_shape`, `ds_tensor`). To make it
whole, every process must call, in the same order.
"""

import os
import warnings
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

BUCKET = 50_000_000
"""Gradients that are exchanged at a time. Each device sets room for them aside: 200 MB in float32, a tenth of what DeepSpeed would."""


def is_zero(model: Any) -> bool:
    """Return whether a model, or the engine around it, is in shards of ZeRO-3."""
    return hasattr(next(iter(model.parameters()), None), "ds_id")


def shard_model(model: Any, accelerator: Accelerator) -> Any:
    """Cut each parameter of a model into as many shards as there are processes; return the same model, on its device.

    It goes to the device parameter by parameter, so no device holds it whole.
    """
    if accelerator.device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # otherwise it looks for a GPU, and says so
    import deepspeed

    deepspeed.utils.logging.set_log_level_from_string("warning")
    warnings.filterwarnings("ignore", "`torch.distributed.* is deprecated", FutureWarning)  # of torch 2.13 about deepspeed 0.19
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # on a CPU: a minute of C++ compiled for what is not called here
    deepspeed.init_distributed()  # with the process group that there is
    deepspeed.zero.Init(module=model, config_dict_or_path=_configure(max_grad_norm=0))
    return model.to(accelerator.device)  # buffers; the parameters are there


def prepare(model: Any, optimizer: torch.optim.AdamW, accelerator: Accelerator, max_grad_norm: float) -> "tuple[Any, ZeroOptimizer]":
    """Return the engine around a model in shards, and its optimizer for the loop; the schedule goes on to set the rates of AdamW itself."""
    import deepspeed

    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=_configure(max_grad_norm))
    return engine, ZeroOptimizer(engine, optimizer, accelerator)


class ZeroOptimizer:
    """AdamW in the engine: over a few flat float32 tensors, in each of which this process's shards of many parameters lie."""

    def __init__(self, engine: Any, adamw: torch.optim.AdamW, accelerator: Accelerator) -> None:
        self._engine, self._adamw, self._accelerator = engine, adamw, accelerator
        self.param_groups = adamw.param_groups

    def zero_grad(self) -> None:
        self._engine.optimizer.zero_grad()

    def measure_norm(self) -> torch.Tensor:
        """Return the norm of all gradients; the engine measures it too, but in the step, which is then too late to refuse."""
        from deepspeed.utils import safe_get_local_grad

        trained = (parameter for parameter in self._engine.module.parameters() if parameter.requires_grad)
        squares = torch.stack([safe_get_local_grad(parameter).square().sum() for parameter in trained])
        total: torch.Tensor = self._accelerator.reduce(squares.sum(), "sum")
        return total.sqrt()

    def step(self) -> None:
        """Clip the gradients and take the step."""
        self._engine.step()
        assert self._engine.was_step_applied()  # not where the norm is not finite

    def gather_moments(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """Return AdamW's state of a parameter, its moments in one piece; the number of steps is that of the flat tensors."""
        from deepspeed.utils import safe_get_full_optimizer_state

        state: dict[str, torch.Tensor] = next(iter(self._adamw.state.values()), {})
        return {key: value.clone() if value.ndim == 0 else safe_get_full_optimizer_state(parameter, key) for key, value in state.items()}

    def put_moment(self, parameter: nn.Parameter, key: str, whole: torch.Tensor) -> None:
        """Give AdamW a value of a parameter's state; its own begins with the first step."""
        from deepspeed.utils import safe_set_local_optimizer_state

        for flat in self._engine.optimizer.fp32_partitioned_groups_flat:
            if whole.ndim == 0:
                self._adamw.state[flat][key] = whole.clone().to(flat.device)  # each counts its steps in place
            else:
                self._adamw.state[flat].setdefault(key, torch.zeros_like(flat))
        if whole.ndim > 0:
            safe_set_local_optimizer_state(parameter, _cut(whole, parameter), key)


def backward(engine: Any, loss: torch.Tensor, is_last: bool) -> None:
    """Add the gradients of a micro-batch to this process's shards of them, over the processes averaged, otherwise as they are."""
    engine.set_gradient_accumulation_boundary(is_last)
    engine.backward(loss, scale_wrt_gas=False)


def gather(parameter: nn.Parameter) -> torch.Tensor:
    """Return a parameter in one piece."""
    import deepspeed

    if parameter.requires_grad:
        whole: torch.Tensor = deepspeed.utils.safe_get_full_fp32_param(parameter)
        return whole.detach()
    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()


def put(whole: torch.Tensor, parameter: Any) -> None:
    """Give a trained parameter a value: what is computed with, and the copy that AdamW moves, two tensors even in float32."""
    from deepspeed.utils import safe_set_local_fp32_param

    share = _cut(whole, parameter)
    parameter.ds_tensor.copy_(share)
    safe_set_local_fp32_param(parameter, share)


def _cut(whole: torch.Tensor, parameter: Any) -> torch.Tensor:
    """Return this process's share of a value of a parameter, or of a moment of it; all are of one length, the last with zeros behind."""
    size, rank = parameter.ds_tensor.numel(), torch.distributed.get_rank()
    share = whole.flatten()[rank * size : (rank + 1) * size].to(parameter.ds_tensor.device)
    return nn.functional.pad(share, (0, size - share.numel()))


def _configure(max_grad_norm: float) -> dict[str, Any]:
    """Return DeepSpeed's config, without bf16: what is trained stays in float32, frozen weights as they are, autocast does the rest."""
    return {
        "train_micro_batch_size_per_gpu": 1,  # has to be given; the loop divides by its window's rows itself
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_grad_norm,
        # DeepSpeed would keep parameters below 100,000 elements whole once gathered: a tiny model would not be in shards.
        "zero_optimization": {"stage": 3, "reduce_bucket_size": BUCKET, "stage3_param_persistence_threshold": 0},
    }
