"""A layer of BERT or DistilBERT in training on a CPU, its forward and backward written out.

It computes what autograd does with transformers' modules, in fewer of the small operations that take a third of a step there: query, key
and value are one product, and residuals are added within the product that follows. Source: Vaswani et al. 2017, "Attention Is All You
Need", sections 3.1 to 3.3; Devlin et al. 2018, "BERT", appendix A.2 (dropout, GELU).
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from emotion.cpu.dropout import draw_mask

aten: Any = torch.ops.aten


class Sublayers(NamedTuple):
    """The modules of a layer that `LayerNames` names; its weights and biases are theirs."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    attention_output: nn.Module
    attention_norm: nn.Module
    up: nn.Module
    down: nn.Module
    output_norm: nn.Module

    def list_weights(self) -> list[torch.Tensor] | None:
        """Return weight and bias of each module, if all are plain and trained; otherwise None."""
        if not all(is_plain(module) for module in self):
            return None
        weights: list[Any] = [weight for module in self for weight in (module.weight, module.bias)]
        return weights if all(weight.requires_grad for weight in weights) else None


def is_plain(module: nn.Module) -> bool:
    """Return whether a module is its weights and nothing more: no adapter, not quantized."""
    return type(module) in (nn.Linear, nn.LayerNorm)


def run_layer(
    hidden: torch.Tensor, mask: torch.Tensor | None, num_heads: int, dropouts: tuple[float, float, float], sublayers: Sublayers
) -> torch.Tensor | None:
    """Return the layer's output, (b, t, h), or None where the written-out form does not apply.

    `mask` is bool (b, 1, t, t), true where attended, or None; dropouts are of attention weights, attention output and layer output.
    """
    applies = hidden.device.type == "cpu" and hidden.requires_grad and not torch.is_autocast_enabled("cpu")
    weights = sublayers.list_weights() if applies else None
    if weights is None:
        return None
    epsilons = (sublayers.attention_norm.eps, sublayers.output_norm.eps)
    result: torch.Tensor = _Layer.apply(hidden, None if mask is None else ~mask, num_heads, dropouts, epsilons, *weights)
    return result


class _Layer(torch.autograd.Function):
    """The layer as a function of its weights; in the backward `grad_x` is the gradient of x."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        masked: torch.Tensor | None,
        num_heads: int,
        dropouts: tuple[float, float, float],
        epsilons: tuple[float, float],
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        query, query_bias, key, key_bias, value, value_bias, out, out_bias, norm, norm_bias, *rest = weights
        up, up_bias, down, down_bias, last_norm, last_norm_bias = rest
        num_texts, width, size = hidden.shape
        head_size = size // num_heads
        inputs = hidden.reshape(-1, size)  # (b * t, h)
        qkv_weight = torch.cat((query, key, value))

        projected = torch.mm(inputs, qkv_weight.t()).view(num_texts, width, 3, num_heads, head_size).permute(2, 0, 3, 1, 4)
        heads = torch.empty(projected.shape, dtype=hidden.dtype)
        torch.add(projected, torch.cat((query_bias, key_bias, value_bias)).view(3, 1, num_heads, 1, head_size), out=heads)
        heads = heads.view(3, -1, width, head_size)  # (3, b * H, t, h / H)
        scores = torch.bmm(heads[0], heads[1].transpose(1, 2)).mul_(head_size**-0.5)  # (b * H, t, t)
        if masked is not None:
            scores.view(num_texts, num_heads, width, width).masked_fill_(masked, float("-inf"))
        probs = functional.softmax(scores, dim=-1)
        probs_mask = draw_mask(probs, dropouts[0])
        dropped = probs * probs_mask
        context = torch.bmm(dropped, heads[2]).view(num_texts, num_heads, width, head_size).transpose(1, 2).reshape(-1, size)

        context_mask, output_mask = draw_mask(inputs, dropouts[1]), draw_mask(inputs, dropouts[2])
        attended = torch.addcmul(inputs, torch.addmm(out_bias, context, out.t()), context_mask)
        normed, *statistics = torch.native_layer_norm(attended, (size,), norm, norm_bias, epsilons[0])
        pre_act = torch.addmm(up_bias, normed, up.t())  # (b * t, 4 h)
        act = functional.gelu(pre_act)
        output = torch.addcmul(normed, torch.addmm(down_bias, act, down.t()), output_mask)
        result, *last_statistics = torch.native_layer_norm(output, (size,), last_norm, last_norm_bias, epsilons[1])

        ctx.save_for_backward(
            *(inputs, heads, probs, probs_mask, dropped, context, context_mask, attended, *statistics, normed, pre_act, act),
            *(output_mask, output, *last_statistics, qkv_weight, out, norm, norm_bias, up, down, last_norm, last_norm_bias),
        )
        ctx.shape = (num_texts, width, num_heads, head_size)
        return result.view(hidden.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        inputs, heads, probs, probs_mask, dropped, context, context_mask, attended, *saved = ctx.saved_tensors
        mean, scale, normed, pre_act, act, output_mask, output, last_mean, last_scale, *saved = saved
        qkv_weight, out, norm, norm_bias, up, down, last_norm, last_norm_bias = saved
        num_texts, width, num_heads, head_size = ctx.shape
        size = num_heads * head_size

        grad_result = gradients[0].reshape(-1, size)
        grad_output, *grad_last_norm = aten.native_layer_norm_backward(
            grad_result, output, (size,), last_mean, last_scale, last_norm, last_norm_bias, [True] * 3
        )
        grad_down = grad_output * output_mask
        grad_pre_act = aten.gelu_backward(torch.mm(grad_down, down), pre_act)
        grad_normed = grad_output.addmm_(grad_pre_act, up)
        grad_attended, *grad_norm = aten.native_layer_norm_backward(
            grad_normed, attended, (size,), mean, scale, norm, norm_bias, [True] * 3
        )
        grad_out = grad_attended * context_mask

        grad_context = torch.mm(grad_out, out).view(num_texts, width, num_heads, head_size).transpose(1, 2).reshape(heads.shape[1:])
        grad_probs = torch.bmm(grad_context, heads[2].transpose(1, 2)).mul_(probs_mask)
        grad_scores = aten._softmax_backward_data(grad_probs, probs, -1, probs.dtype).mul_(head_size**-0.5)
        grad_heads = torch.empty_like(heads)
        torch.bmm(grad_scores, heads[1], out=grad_heads[0])
        torch.bmm(grad_scores.transpose(1, 2), heads[0], out=grad_heads[1])
        torch.bmm(dropped.transpose(1, 2), grad_context, out=grad_heads[2])
        grad_projected = grad_heads.view(3, num_texts, num_heads, width, head_size).permute(1, 3, 0, 2, 4).reshape(-1, 3 * size)
        grad_inputs = grad_attended.addmm_(grad_projected, qkv_weight).view(num_texts, width, size)

        grad_qkv = (part.split(size) for part in _linear_gradients(grad_projected, inputs))
        of_qkv = [part for pair in zip(*grad_qkv, strict=True) for part in pair]
        of_attention = (*_linear_gradients(grad_out, context), *grad_norm)
        of_mlp = (*_linear_gradients(grad_pre_act, normed), *_linear_gradients(grad_down, act), *grad_last_norm)
        return grad_inputs, None, None, None, None, *of_qkv, *of_attention, *of_mlp


def _linear_gradients(grad_outputs: torch.Tensor, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of a linear layer's weight and bias."""
    return torch.mm(grad_outputs.t(), inputs), grad_outputs.sum(0)
