"""The same model in fewer operations on a CPU: layers of small encoders, and dropout masks that are cheap to draw.

A model's logits stay what transformers computes, up to rounding; its last hidden state is the first token's alone, and it returns no
attentions. Weights keep their names, so a saved folder knows nothing of this.
"""

from functools import cache
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from emotion.cpu.dropout import CheapDropout, draw_mask
from emotion.cpu.encoder_family import EncoderFamily, find_family
from emotion.cpu.encoder_layer import Sublayers, is_plain, run_layer


def optimize_encoder(model: Any, device: torch.device) -> Any:
    """Change a model's modules in place and return it: all dropout, and the layers of a BERT or DistilBERT classifier.

    Their heads read the first token only, so the last layer computes nothing for the others. An encoder with another attention kernel than
    sdpa keeps its layers, and on a GPU nothing is changed.
    """
    if device.type != "cpu":
        return model
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = CheapDropout
    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    family = find_family(vars(plain.config) | {"model_type": getattr(plain.config, "model_type", "")})  # a class attribute
    if family is None or plain.config._attn_implementation != "sdpa":
        return model
    num_heads = getattr(plain.config, family.num_heads)
    layers = plain.base_model.get_submodule(family.layers)
    for layer in layers:
        layer.__class__ = _mix(layer.__class__, family, num_heads, layer is layers[-1])
    return model


@cache
def _mix(owner: Any, family: EncoderFamily, num_heads: int, is_last: bool) -> Any:
    """Return a subclass of transformers' layer with the forward below; a module of it stays an instance of its own class."""
    dropouts = [name for name in (family.attention_dropout, family.attention_output_dropout, family.output_dropout) if name is not None]
    find_modules = staticmethod(attrgetter(*family.names, family.activation_module, *dropouts))  # a tenth of the time of get_submodule
    attributes = {"find_modules": find_modules, "num_heads": num_heads, "is_last": is_last}
    return type(f"Fast{owner.__name__}", (_EncoderLayer, owner), attributes)


class _EncoderLayer:
    find_modules: Any
    """Returns the eight modules with weights, the activation, and two or three dropouts of a layer."""
    num_heads: int
    is_last: bool

    def forward(self: Any, hidden: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any) -> torch.Tensor:
        """Return the layer's output, (b, t, h); of the last layer the first token's only, (b, 1, h)."""
        modules = self.find_modules(self)
        parts, activation, dropouts = Sublayers(*modules[:8]), modules[8], modules[9:]
        if self.is_last:
            cls_hidden = hidden[:, :1]
            context = attend_from_first(parts, self.num_heads, dropouts[0], attention_mask, cls_hidden, hidden)
            return _finish(parts, dropouts, activation, context, cls_hidden)
        if self.training and type(activation).__name__ == "GELUActivation":
            rates = (dropouts[0].p, dropouts[1].p if len(dropouts) > 2 else 0.0, dropouts[-1].p)
            if (result := run_layer(hidden, attention_mask, self.num_heads, rates, parts)) is not None:
                return result
        query, key, value = parts.query(hidden), parts.key(hidden), parts.value(hidden)
        context = attend(query, key, value, self.num_heads, attention_mask, dropouts[0].p if self.training else 0.0)
        return _finish(parts, dropouts, activation, context, hidden)


def _finish(
    parts: Sublayers, dropouts: tuple[nn.Module, ...], activation: nn.Module, context: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """Return a layer's output from what its attention has put together; `dropouts` are two if the attention's output has none."""
    attended = parts.attention_output(context)
    attended = parts.attention_norm((dropouts[1](attended) if len(dropouts) > 2 else attended) + hidden)
    return parts.output_norm(dropouts[-1](parts.down(activation(parts.up(attended)))) + attended)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, num_heads: int, mask: torch.Tensor | None, dropout: float
) -> torch.Tensor:
    """Return the attended values, (b, q, h), of queries (b, q, h) to keys and values, (b, t, h).

    `mask` is bool (b, 1, t, t), true where attended, or None; the queries are those of the first tokens.
    """
    query, key, value = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    scaling = query.shape[-1] ** -0.5
    mask = None if mask is None else mask[:, :, : query.shape[2]]
    if dropout:
        scores = (query * scaling) @ key.transpose(2, 3)
        probs = functional.softmax(scores if mask is None else scores.masked_fill(~mask, float("-inf")), dim=-1)
        context = (probs * draw_mask(probs, dropout)) @ value
    else:
        context = functional.scaled_dot_product_attention(query, key, value, mask, scale=scaling)
    return context.transpose(1, 2).flatten(2)


def attend_from_first(
    parts: Sublayers, num_heads: int, dropout: nn.Module, mask: torch.Tensor | None, cls_hidden: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """Return the attended values, (b, 1, h), of the first token, (b, 1, h), to all tokens, (b, t, h).

    There is one query a head, so it is projected back to score the hidden states, and their weighted mean is projected: neither keys nor
    values of the tokens are computed. Adapters have no such form.
    """
    query = parts.query(cls_hidden)
    if not (is_plain(parts.key) and is_plain(parts.value)):
        rate = getattr(dropout, "p", 0.0) if dropout.training else 0.0
        return attend(query, parts.key(hidden), parts.value(hidden), num_heads, mask, rate)
    plain: Any = parts
    by_head = (num_heads, -1)
    key_weight, key_bias = plain.key.weight.unflatten(0, by_head), plain.key.bias.unflatten(0, by_head)
    value_weight, value_bias = plain.value.weight.unflatten(0, by_head), plain.value.bias.unflatten(0, by_head)
    heads = query.unflatten(-1, (num_heads, -1))
    heads = (heads * heads.shape[-1] ** -0.5).squeeze(1)  # (b, H, d)
    back_projected = torch.einsum("bHd,Hdh->bHh", heads, key_weight)
    scores = back_projected @ hidden.transpose(1, 2) + (heads * key_bias).sum(-1, keepdim=True)  # (b, H, t)
    probs = dropout(functional.softmax(scores if mask is None else scores.masked_fill(~mask[:, :, 0], float("-inf")), dim=-1))
    context = torch.einsum("bHh,Hdh->bHd", probs @ hidden, value_weight)
    return (context + probs.sum(-1, keepdim=True) * value_bias).flatten(1).unsqueeze(1)
