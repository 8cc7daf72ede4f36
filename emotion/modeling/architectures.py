"""DistilBERT, Gemma-1.1-2b-it, Mistral-7B and Mistral-7B-Instruct, to plan a run or to measure its speed without downloading them.

Source: `config.json` of each model on the Hub.
"""

from typing import Any

_MISTRAL = {
    "model_type": "mistral",
    "vocab_size": 32_000,
    "hidden_size": 4_096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-5,
    "dtype": "bfloat16",
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "distilbert/distilbert-base-uncased": {
        "model_type": "distilbert",
        "vocab_size": 30_522,
        "dim": 768,
        "hidden_dim": 3_072,
        "n_layers": 6,
        "n_heads": 12,
        "max_position_embeddings": 512,
    },
    "google/gemma-1.1-2b-it": {
        "model_type": "gemma",
        "vocab_size": 256_000,
        "hidden_size": 2_048,
        "intermediate_size": 16_384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "max_position_embeddings": 8_192,
        "dtype": "bfloat16",
    },
    "mistralai/Mistral-7B-v0.1": {**_MISTRAL, "sliding_window": 4_096},
    "mistralai/Mistral-7B-Instruct-v0.2": {**_MISTRAL, "sliding_window": None, "rope_theta": 1_000_000.0},
}
"""Keyword arguments of `AutoConfig.for_model`, by Hub id."""
