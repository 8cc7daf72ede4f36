"""The same model in fewer operations: small encoders without what their head does not read, cheap dropout masks on a CPU.

A model's logits stay what transformers would compute, up to rounding (its last hidden state is the first token's alone, and it gives no
attentions); its weights keep their names, so a saved folder knows nothing of this. What each part gains is in `benchmarks/NOTES.md`.
"""

from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from emotion.modeling.lora import strip_adapters

LEVELS = 2**16
"""A dropout probability is rounded to a multiple of one over this."""


def take_shortcuts(model: Any) -> Any:
    """Change a model's modules in place and return it: all dropout, and of a BERT or DistilBERT classifier attention and last layer.

    Their heads read the first token only, so the last layer computes keys and values of all tokens but nothing else of the rest.
    An encoder with another attention kernel than sdpa keeps its layers as they are.
    """
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = CheapDropout
    plain = strip_adapters(model)
    family = plain.config.model_type
    if family not in ("bert", "distilbert") or plain.config._attn_implementation != "sdpa" or getattr(plain.config, "is_decoder", False):
        return model
    if family == "bert":
        *layers, last_layer = plain.base_model.encoder.layer
        for layer in layers:
            _mix_in(_BertAttention, layer.attention.self)
        _mix_in(_LastBertLayer, last_layer)
    else:
        *layers, last_layer = plain.base_model.transformer.layer
        for layer in layers:
            _mix_in(_DistilBertAttention, layer.attention)
        _mix_in(_LastDistilBertLayer, last_layer)
    return model


class CheapDropout(nn.Dropout):
    """Dropout whose masks on a CPU are 16-bit pieces of 64-bit draws: a fifth of the time of torch's own."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0 or values.device.type != "cpu":
            return super().forward(values)
        return values * draw_mask(values, self.p)


def draw_mask(values: torch.Tensor, p: float) -> torch.Tensor:
    """Return a dropout mask of the shape and dtype of `values`: 0 with probability `p`, otherwise 1 / (1 - p)."""
    num_values, num_dropped = values.numel(), min(round(p * LEVELS), LEVELS - 1)
    bits = torch.empty(-(-num_values // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:num_values]
    return (bits >= num_dropped - LEVELS // 2).view(values.shape).to(values.dtype).mul_(LEVELS / (LEVELS - num_dropped))


def attend(attention: Any, mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return the attended values, (b, q, h), of queries (b, q, h) to keys and values, (b, t, h).

    `mask` is bool (b, 1, t, t), true where attended, or None; the queries are those of the first tokens.
    """
    query, key, value = (part.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2) for part in (query, key, value))
    mask = None if mask is None else mask[:, :, : query.shape[2]]
    dropout = attention.dropout.p if attention.training else 0.0
    if dropout and query.device.type == "cpu":
        scores = (query * attention.scaling) @ key.transpose(2, 3)
        weights = functional.softmax(scores if mask is None else scores.masked_fill(~mask, float("-inf")), dim=-1)
        attended = (weights * draw_mask(weights, dropout)) @ value
    else:
        attended = functional.scaled_dot_product_attention(query, key, value, mask, dropout, scale=attention.scaling)
    return attended.transpose(1, 2).flatten(2)


class _BertAttention:
    def forward(
        self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, None]:
        return attend(self, attention_mask, self.query(states), self.key(states), self.value(states)), None


class _LastBertLayer:
    def forward(self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any) -> torch.Tensor:
        first, attention = states[:, :1], self.attention.self
        attended = attend(attention, attention_mask, attention.query(first), attention.key(states), attention.value(states))
        return self.feed_forward_chunk(self.attention.output(attended, first))


class _DistilBertAttention:
    def forward(
        self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, None]:
        return self.out_lin(attend(self, attention_mask, self.q_lin(states), self.k_lin(states), self.v_lin(states))), None


class _LastDistilBertLayer:
    def forward(self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any) -> torch.Tensor:
        first, attention = states[:, :1], self.attention
        attended = attend(attention, attention_mask, attention.q_lin(first), attention.k_lin(states), attention.v_lin(states))
        attended = self.sa_layer_norm(attention.out_lin(attended) + first)
        return self.output_layer_norm(self.ffn(attended) + attended)


def _mix_in(mixin: type, module: nn.Module) -> None:
    """Give a module the mixin's forward; it stays an instance of its own class, and transformers need not be imported for that."""
    owner: Any = type(module)
    module.__class__ = _mix(mixin, owner)


@cache
def _mix(mixin: Any, owner: Any) -> Any:
    return type(mixin.__name__, (mixin, owner), {})
