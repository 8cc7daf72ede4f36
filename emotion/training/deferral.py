"""AdamW that leaves for later what it can of a word embedding, of whose 30,000 rows a window reads a few hundred.

A row without a gradient moves too, by its momentum and by weight decay, but by steps that follow from the learning rates alone: five
numbers a row add them up, and they are taken at once when the row is next read. So what comes out is AdamW's, up to rounding, and a step
touches neither the other rows nor a gradient full of zeros. For one process on a CPU: memory is slow there, and gradients stay here.
"""

from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

PENDING = "pending"
"""Its key in the optimizer's state of the embedding."""

NOTHING = (1.0, 0.0, 0.0, 1.0, 1.0)
"""What is pending for a row that is up to date: the factor of its weights; the sum of its steps, each the rate times the decay of momentum
over that of spread; the same with each over the decay of spread once more, for epsilon; the decay of momentum; that of spread, which is
the root of the second moment."""

NUM_OF_WEIGHT = 3
"""The first of them are of the weights, the others of the moments."""

SMALLEST = 1e-30
"""Momentum that has decayed below this share is held there: it moves nothing any more, and numbers too small for float32 are slow."""


class DeferringAdamW(torch.optim.AdamW):
    """AdamW, the rows of one embedding up to date only while they are read in training; `settle` before they are read otherwise."""

    def __init__(self, groups: list[dict[str, Any]], embedding: nn.Embedding) -> None:
        super().__init__(groups, fused=True)
        self._weight = embedding.weight
        embedding.sparse = True  # gradients of the rows that were read
        embedding.register_forward_pre_hook(self._catch_up)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take AdamW's step, of the embedding in the rows that have a gradient."""
        gradient, self._weight.grad = self._weight.grad, None
        loss = super().step(closure)
        if gradient is not None:
            gradient = gradient.coalesce()
            self._step_rows(gradient.indices()[0], gradient.values())
        return loss

    @torch.no_grad()
    def clip_gradients(self, max_norm: float) -> torch.Tensor:
        """Return the norm of all gradients, and scale them down to `max_norm` if it is above.

        As `torch.nn.utils.clip_grad_norm_`, which knows no sparse gradients; by dot products, and gradients within the bound are let alone.
        """
        if self._weight.grad is not None:
            self._weight.grad = self._weight.grad.coalesce()
        given = [value.grad for group in self.param_groups for value in group["params"] if value.grad is not None]
        gradients = [(gradient.values() if gradient.is_sparse else gradient).flatten() for gradient in given]
        norm = torch.stack([gradient.dot(gradient) for gradient in gradients]).sum().sqrt()
        if norm > max_norm:
            for gradient in gradients:
                gradient.mul_(max_norm / (norm + 1e-6))
        return norm

    @torch.no_grad()
    def settle(self) -> None:
        """Bring all rows up to date."""
        state = self._find_state()
        settle_rows(self._weight, state["exp_avg"], state["exp_avg_sq"], state[PENDING], self._group["eps"])
        state[PENDING].copy_(_up_to_date(len(self._weight)))

    @torch.no_grad()
    def _catch_up(self, embedding: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        """Bring the weights of rows up to date that training is about to read; their moments wait for the step."""
        if not embedding.training:
            return
        state, rows = self._find_state(), inputs[0].unique()
        weight, mean, square = (held.index_select(0, rows) for held in (self._weight, state["exp_avg"], state["exp_avg_sq"]))
        _move(weight, mean, square, state[PENDING].index_select(1, rows), self._group["eps"])
        self._weight.index_copy_(0, rows, weight)
        state[PENDING][:NUM_OF_WEIGHT].index_copy_(1, rows, _up_to_date(len(rows))[:NUM_OF_WEIGHT])

    def _step_rows(self, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """Step on the rows that have a gradient, (n, h), and add this step to what is pending for the others."""
        state, group = self._find_state(), self._group
        (first, second), epsilon = group["betas"], group["eps"]
        state["step"] += 1
        num_steps, rate = int(state["step"]), group["lr"]
        keep, root = 1 - rate * group["weight_decay"], (1 - second**num_steps) ** 0.5
        rate /= 1 - first**num_steps

        held = (self._weight, state["exp_avg"], state["exp_avg_sq"])
        weight, mean, square = (tensor.index_select(0, rows) for tensor in held)
        _decay(mean, square, state[PENDING].index_select(1, rows))
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        weight.mul_(keep).addcdiv_(mean, square.sqrt().div_(root).add_(epsilon), value=-rate)
        for tensor, values in zip(held, (weight, mean, square), strict=True):
            tensor.index_copy_(0, rows, values)

        shrinking, moving, damping, momentum, spread = state[PENDING]
        momentum.mul_(first).clamp_(min=SMALLEST)
        spread.mul_(second**0.5)
        moved = momentum / spread * (rate * root)
        shrinking.mul_(keep)
        moving.mul_(keep).add_(moved)
        damping.mul_(keep).add_(moved.div_(spread).mul_(root))
        state[PENDING].index_copy_(1, rows, _up_to_date(len(rows)))

    @property
    def _group(self) -> dict[str, Any]:
        """The embedding's group, found anew each time: Accelerate's wrapper gives the optimizer other ones."""
        return next(group for group in self.param_groups if any(value is self._weight for value in group["params"]))

    def _find_state(self) -> dict[str, torch.Tensor]:
        """Return what is kept of the embedding; a state written without deferral has nothing pending."""
        state: dict[str, torch.Tensor] = self.state[self._weight]
        if "exp_avg" not in state:
            state |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(self._weight), "exp_avg_sq": torch.zeros_like(self._weight)}
        if PENDING not in state:
            state[PENDING] = _up_to_date(len(self._weight))
        return state


def find_deferring(optimizer: Any) -> DeferringAdamW | None:
    """Return an optimizer that defers, from under Accelerate's wrapper; None for others."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return inner if isinstance(inner, DeferringAdamW) else None


def settle(optimizer: Any) -> None:
    """Bring the weights up to date for others than the training loop, if the optimizer defers any."""
    if (deferring := find_deferring(optimizer)) is not None:
        deferring.settle()


def may_defer(accelerator: Accelerator) -> bool:
    """Return whether there is one process, on a CPU."""
    return accelerator.num_processes == 1 and accelerator.device.type == "cpu"


def find_embedding(model: Any) -> nn.Embedding | None:
    """Return the model's word embedding if its rows can be deferred: it is trained, and of the plain kind."""
    embedding = model.get_input_embeddings()
    return embedding if type(embedding) is nn.Embedding and embedding.weight.requires_grad else None


def settle_rows(weight: torch.Tensor, mean: torch.Tensor, square: torch.Tensor, pending: torch.Tensor, epsilon: float) -> None:
    """Take what is pending, float64 (5, n), for rows of an embedding and of its first and second moments, (n, h), in place."""
    _move(weight, mean, square, pending, epsilon)
    _decay(mean, square, pending)


def _move(weight: torch.Tensor, mean: torch.Tensor, square: torch.Tensor, pending: torch.Tensor, epsilon: float) -> None:
    """Take the steps of weights that are pending.

    Of k steps, each divides by a spread that has decayed by another factor; epsilon, which is added to it, is divided by their mean.
    """
    shrinking, moving, damping = pending[:NUM_OF_WEIGHT].unsqueeze(-1)
    mean_damping = torch.where(moving > 0, damping / moving, 1.0)
    step = square.sqrt().add_(epsilon * mean_damping.to(weight.dtype))
    weight.mul_(shrinking.to(weight.dtype)).sub_(step.reciprocal_().mul_(mean).mul_(moving.to(weight.dtype)))


def _decay(mean: torch.Tensor, square: torch.Tensor, pending: torch.Tensor) -> None:
    """Take the decay of moments that is pending."""
    momentum, spread = pending[NUM_OF_WEIGHT:].unsqueeze(-1)
    mean.mul_(momentum.to(mean.dtype))
    square.mul_(spread.square().to(square.dtype))


def settle_tensors(weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor], epsilon: float) -> None:
    """Bring weights by name, and moments by `name|key`, up to date in place, for an optimizer that does not defer."""
    for name in [key.removesuffix(f"|{PENDING}") for key in moments if key.endswith(f"|{PENDING}")]:
        settle_rows(weights[name], moments[f"{name}|exp_avg"], moments[f"{name}|exp_avg_sq"], moments.pop(f"{name}|{PENDING}"), epsilon)


def _up_to_date(num_rows: int) -> torch.Tensor:
    """Return what is pending for rows that are up to date, float64 (5, n)."""
    return torch.tensor(NOTHING, dtype=torch.float64).unsqueeze(1).repeat(1, num_rows)
