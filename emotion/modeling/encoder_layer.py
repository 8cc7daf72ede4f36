"""A layer of BERT or DistilBERT in training on a CPU, its forward and backward written out.

What autograd would do of transformers' modules, in fewer of the small operations that take a third of a step there: query, key and value
are one product, and what flows past a sublayer is added within the product that follows. Source: Vaswani et al. 2017, "Attention Is All
You Need", sections 3.1 to 3.3; Devlin et al. 2018, "BERT", appendix A.2 (dropout, GELU).
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from emotion.modeling.dropout import draw_mask

aten: Any = torch.ops.aten


class Sublayers(NamedTuple):
    """The modules of a layer in the order of the computation; its weights and biases are theirs."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    out: nn.Module
    first_norm: nn.Module
    up: nn.Module
    down: nn.Module
    last_norm: nn.Module

    def list_weights(self) -> list[torch.Tensor] | None:
        """Return weight and bias of each, if that is all there is to them and they are trained."""
        if not all(is_plain(module) for module in self):
            return None
        weights: list[Any] = [weight for module in self for weight in (module.weight, module.bias)]
        return weights if all(weight.requires_grad for weight in weights) else None


def is_plain(module: nn.Module) -> bool:
    """Return whether a module is its weights and no more: it has no adapter, is not quantised, and not gathered for its own forward."""
    return type(module) in (nn.Linear, nn.LayerNorm) and not hasattr(module.weight, "ds_id")


def run_layer(
    states: torch.Tensor, mask: torch.Tensor | None, num_heads: int, dropouts: tuple[float, float, float], sublayers: Sublayers
) -> torch.Tensor | None:
    """Return the layer's states, (b, t, h), of those before it, or None where this is not the way to compute them.

    `mask` is bool (b, 1, t, t), true where attended, or None; dropout is of attention weights, attention's output and the last output.
    """
    is_at_home = states.device.type == "cpu" and states.requires_grad and not torch.is_autocast_enabled("cpu")
    weights = sublayers.list_weights() if is_at_home else None
    if weights is None:
        return None
    epsilons = (sublayers.first_norm.eps, sublayers.last_norm.eps)
    result: torch.Tensor = _Layer.apply(states, None if mask is None else ~mask, num_heads, dropouts, epsilons, *weights)
    return result


class _Layer(torch.autograd.Function):
    """The layer by its weights; in the backward `to_x` is the gradient that comes to x."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        hidden: torch.Tensor | None,
        num_heads: int,
        dropouts: tuple[float, float, float],
        epsilons: tuple[float, float],
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        query, query_bias, key, key_bias, value, value_bias, out, out_bias, gain, bias, *rest = weights
        up, up_bias, down, down_bias, last_gain, last_bias = rest
        num_texts, width, size = states.shape
        head_size = size // num_heads
        inputs = states.reshape(-1, size)  # (b * t, h)
        inward = torch.cat((query, key, value))

        projected = torch.mm(inputs, inward.t()).view(num_texts, width, 3, num_heads, head_size).permute(2, 0, 3, 1, 4)
        heads = torch.empty(projected.shape, dtype=states.dtype)
        torch.add(projected, torch.cat((query_bias, key_bias, value_bias)).view(3, 1, num_heads, 1, head_size), out=heads)
        heads = heads.view(3, -1, width, head_size)  # (3, b * H, t, h / H)
        scores = torch.bmm(heads[0], heads[1].transpose(1, 2)).mul_(head_size**-0.5)  # (b * H, t, t)
        if hidden is not None:
            scores.view(num_texts, num_heads, width, width).masked_fill_(hidden, float("-inf"))
        shares = functional.softmax(scores, dim=-1)
        kept_shares = draw_mask(shares, dropouts[0])
        dropped = shares * kept_shares
        mixed = torch.bmm(dropped, heads[2]).view(num_texts, num_heads, width, head_size).transpose(1, 2).reshape(-1, size)

        kept_mixed, kept_fed = draw_mask(inputs, dropouts[1]), draw_mask(inputs, dropouts[2])
        attended = torch.addcmul(inputs, torch.addmm(out_bias, mixed, out.t()), kept_mixed)
        normed, *spread = torch.native_layer_norm(attended, (size,), gain, bias, epsilons[0])
        raised = torch.addmm(up_bias, normed, up.t())  # (b * t, 4 h)
        bent = functional.gelu(raised)
        fed = torch.addcmul(normed, torch.addmm(down_bias, bent, down.t()), kept_fed)
        result, *last_spread = torch.native_layer_norm(fed, (size,), last_gain, last_bias, epsilons[1])

        ctx.save_for_backward(
            *(inputs, heads, shares, kept_shares, dropped, mixed, kept_mixed, attended, *spread, normed, raised, bent),
            *(kept_fed, fed, *last_spread, inward, out, gain, bias, up, down, last_gain, last_bias),
        )
        ctx.shape = (num_texts, width, num_heads, head_size)
        return result.view(states.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        inputs, heads, shares, kept_shares, dropped, mixed, kept_mixed, attended, *saved = ctx.saved_tensors
        mean, scale, normed, raised, bent, kept_fed, fed, last_mean, last_scale, *saved = saved
        inward, out, gain, bias, up, down, last_gain, last_bias = saved
        num_texts, width, num_heads, head_size = ctx.shape
        size = num_heads * head_size

        to_result = gradients[0].reshape(-1, size)
        to_fed, *to_last_norm = aten.native_layer_norm_backward(
            to_result, fed, (size,), last_mean, last_scale, last_gain, last_bias, [True] * 3
        )
        to_down = to_fed * kept_fed
        to_raised = aten.gelu_backward(torch.mm(to_down, down), raised)
        to_normed = to_fed.addmm_(to_raised, up)
        to_attended, *to_first_norm = aten.native_layer_norm_backward(to_normed, attended, (size,), mean, scale, gain, bias, [True] * 3)
        to_out = to_attended * kept_mixed

        to_mixed = torch.mm(to_out, out).view(num_texts, width, num_heads, head_size).transpose(1, 2).reshape(heads.shape[1:])
        to_shares = torch.bmm(to_mixed, heads[2].transpose(1, 2)).mul_(kept_shares)
        to_scores = aten._softmax_backward_data(to_shares, shares, -1, shares.dtype).mul_(head_size**-0.5)
        to_heads = torch.empty_like(heads)
        torch.bmm(to_scores, heads[1], out=to_heads[0])
        torch.bmm(to_scores.transpose(1, 2), heads[0], out=to_heads[1])
        torch.bmm(dropped.transpose(1, 2), to_mixed, out=to_heads[2])
        to_projected = to_heads.view(3, num_texts, num_heads, width, head_size).permute(1, 3, 0, 2, 4).reshape(-1, 3 * size)
        to_inputs = to_attended.addmm_(to_projected, inward).view(num_texts, width, size)

        of_inward = [part for pair in zip(*(part.split(size) for part in _of_linear(to_projected, inputs)), strict=True) for part in pair]
        of_rest = (*_of_linear(to_out, mixed), *to_first_norm, *_of_linear(to_raised, normed), *_of_linear(to_down, bent), *to_last_norm)
        return to_inputs, None, None, None, None, *of_inward, *of_rest


def _of_linear(to_outputs: torch.Tensor, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of a linear layer's weight and bias."""
    return torch.mm(to_outputs.t(), inputs), to_outputs.sum(0)
