"""Tiny GGUF files, written as llama.cpp's converter writes them, and the checkpoints that they come from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = [*(f"<{name}>" for name in ("pad", "eos", "bos", "unk")), *(f"<0x{byte:02X}>" for byte in range(256))]
TOKENS += ["▁", *LETTERS, *(f"▁{letter}" for letter in LETTERS), "<mask>"]
PAD, END, BEGIN, UNKNOWN = range(4)
SPECIAL = {"mistral": ("<pad>", "</s>", "<s>", "<unk>"), "gemma3_text": ("<pad>", "<eos>", "<bos>", "<unk>")}
"""The first tokens of each architecture, under the names that its tokenizer expects."""
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
NORMS = {
    "mistral": {"post_attention_layernorm": "ffn_norm"},
    "gemma3_text": {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}
"""Names of the layers' parts in a GGUF file, by those in transformers; norms differ between the architectures."""
GGUF_NAMES = {"mistral": ("llama", "Mistral-7B-v0.1"), "gemma3_text": ("gemma3", "tiny")}
"""`general.architecture` and `general.name`: Mistral is written as a Llama."""


def make_checkpoint(family: str) -> Any:
    """Return a decoder with random weights, width 64, whose matrices have rows that 4-bit blocks divide."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    own: dict[str, Any] = {"head_dim": 16, "sliding_window": 64 if family == "gemma3_text" else None}
    config = AutoConfig.for_model(family, vocab_size=len(TOKENS), max_position_embeddings=128, pad_token_id=PAD, **sizes, **own)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms that differ from one another
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def write_gguf(path: Path, model: Any, quantization: str = "F32") -> Path:
    """Write a GGUF file of a checkpoint of `make_checkpoint`; `quantization` is a type of matrices, such as `F16` or `Q8_0`."""
    import gguf

    config = model.config
    architecture, name = GGUF_NAMES[config.model_type]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1_000_000.0 if architecture == "gemma3" else 10_000.0)
    if architecture == "llama":
        writer.add_rope_dimension_count(config.head_dim)
    else:
        writer.add_sliding_window(config.sliding_window)
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer, SPECIAL[config.model_type])
    weights_type = gguf.GGMLQuantizationType[quantization]
    for key, value in model.state_dict().items():
        if (gguf_name := name_tensor(key, config.model_type)) is not None:
            array = convert(key, value.float().numpy(), config)
            own_type = weights_type if array.ndim > 1 else gguf.GGMLQuantizationType.F32
            writer.add_tensor(gguf_name, gguf.quantize(array, own_type), raw_dtype=own_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: Any, special: tuple[str, ...]) -> None:
    types = [3, 3, 3, 2, *[6] * 256, *[1] * (len(TOKENS) - 260)]  # control, unknown, byte, normal
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *TOKENS[4:]])
    writer.add_token_scores([0.0] * 260 + [-float(number) for number in range(len(TOKENS) - 260)])
    writer.add_token_types(types)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def name_tensor(key: str, model_type: str) -> str | None:
    """Return the name of a tensor in a GGUF file; None for the output layer that is tied to the embedding."""
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if key == "lm_head.weight":
        return None if model_type == "gemma3_text" else "output.weight"
    if key in whole:
        return whole[key]
    _, _, number, rest = key.split(".", 3)
    names = NAMES | NORMS[model_type]
    return f"blk.{number}.{names[rest.removesuffix('.weight')]}.weight"


def convert(key: str, value: np.ndarray, config: Any) -> np.ndarray:
    """Return a tensor as llama.cpp stores it: Llama's queries and keys in another order, Gemma's norms plus one."""
    if config.model_type == "gemma3_text":
        return value + 1 if key.endswith("norm.weight") else value
    for name, num_heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
        if name in key:
            return value.reshape(num_heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
    return value
