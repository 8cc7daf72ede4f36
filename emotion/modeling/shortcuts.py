"""The same model in fewer operations: small encoders without what their head does not read, cheap dropout masks on a CPU.

A model's logits stay what transformers would compute, up to rounding (its last hidden state is the first token's alone, and it gives no
attentions); its weights keep their names, so a saved folder knows nothing of this. What each part gains is in `benchmarks/NOTES.md`.
"""

from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from emotion.modeling.dropout import CheapDropout, draw_mask
from emotion.modeling.encoder_layer import Sublayers, is_plain, run_layer
from emotion.modeling.lora import strip_adapters


def take_shortcuts(model: Any) -> Any:
    """Change a model's modules in place and return it: all dropout, and of a BERT or DistilBERT classifier attention and last layer.

    Their heads read the first token only, so the last layer computes nothing for the others.
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
            if plain.config.hidden_act == "gelu":
                _mix_in(_BertLayer, layer)
        _mix_in(_LastBertLayer, last_layer)
    else:
        *layers, last_layer = plain.base_model.transformer.layer
        for layer in layers:
            _mix_in(_DistilBertAttention, layer.attention)
            if plain.config.activation == "gelu":
                _mix_in(_DistilBertLayer, layer)
        _mix_in(_LastDistilBertLayer, last_layer)
    return model


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


def attend_first(
    attention: Any, mask: torch.Tensor | None, query: torch.Tensor, key: Any, value: Any, states: torch.Tensor
) -> torch.Tensor:
    """Return what `attend` would for the first token's query, (b, 1, h), to keys and values of the states, (b, t, h).

    One query a head: it is projected back to score the states, and their mean is projected, not each of the states twice.
    """
    if not (is_plain(key) and is_plain(value)):
        return attend(attention, mask, query, key(states), value(states))
    size = attention.attention_head_size
    heads = (query * attention.scaling).unflatten(-1, (-1, size)).squeeze(1)  # (b, H, d)
    to_states = torch.einsum("bHd,Hdh->bHh", heads, key.weight.unflatten(0, (-1, size)))
    scores = to_states @ states.transpose(1, 2) + (heads * key.bias.unflatten(0, (-1, size))).sum(-1, keepdim=True)  # (b, H, t)
    weights = attention.dropout(functional.softmax(scores if mask is None else scores.masked_fill(~mask[:, :, 0], float("-inf")), dim=-1))
    attended = torch.einsum("bHh,Hdh->bHd", weights @ states, value.weight.unflatten(0, (-1, size)))
    return (attended + weights.sum(-1, keepdim=True) * value.bias.unflatten(0, (-1, size))).flatten(1).unsqueeze(1)


class _BertAttention:
    def forward(
        self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, None]:
        return attend(self, attention_mask, self.query(states), self.key(states), self.value(states)), None


class _BertLayer:
    def forward(self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *rest: Any, **options: Any) -> torch.Tensor:
        attention, output = self.attention, self.attention.output
        result = None
        if self.training:
            projections = (attention.self.query, attention.self.key, attention.self.value, output.dense)
            parts = Sublayers(*projections, output.LayerNorm, self.intermediate.dense, self.output.dense, self.output.LayerNorm)
            dropouts = (attention.self.dropout.p, output.dropout.p, self.output.dropout.p)
            result = run_layer(states, attention_mask, attention.self.num_attention_heads, dropouts, parts)
        return super().forward(states, attention_mask, *rest, **options) if result is None else result  # type: ignore[misc]


class _LastBertLayer:
    def forward(self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any) -> torch.Tensor:
        first, attention = states[:, :1], self.attention.self
        attended = attend_first(attention, attention_mask, attention.query(first), attention.key, attention.value, states)
        return self.feed_forward_chunk(self.attention.output(attended, first))


class _DistilBertAttention:
    def forward(
        self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, None]:
        return self.out_lin(attend(self, attention_mask, self.q_lin(states), self.k_lin(states), self.v_lin(states))), None


class _DistilBertLayer:
    def forward(self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *rest: Any, **options: Any) -> torch.Tensor:
        attention, ffn, result = self.attention, self.ffn, None
        if self.training:
            projections = (attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin)
            parts = Sublayers(*projections, self.sa_layer_norm, ffn.lin1, ffn.lin2, self.output_layer_norm)
            result = run_layer(states, attention_mask, attention.n_heads, (attention.dropout.p, 0.0, ffn.dropout.p), parts)
        return super().forward(states, attention_mask, *rest, **options) if result is None else result  # type: ignore[misc]


class _LastDistilBertLayer:
    def forward(self: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any) -> torch.Tensor:
        first, attention = states[:, :1], self.attention
        attended = attend_first(attention, attention_mask, attention.q_lin(first), attention.k_lin, attention.v_lin, states)
        attended = self.sa_layer_norm(attention.out_lin(attended) + first)
        return self.output_layer_norm(self.ffn(attended) + attended)


def _mix_in(mixin: type, module: nn.Module) -> None:
    """Give a module the mixin's forward; it stays an instance of its own class, and transformers need not be imported for that."""
    owner: Any = type(module)
    module.__class__ = _mix(mixin, owner)


@cache
def _mix(mixin: Any, owner: Any) -> Any:
    return type(mixin.__name__, (mixin, owner), {})
