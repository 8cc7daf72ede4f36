"""Write a tiny checkpoint with random weights, and a tokenizer, of any architecture with a sequence-classification head.

The sizes are those that the architecture's config has, by the names that transformers uses. The tokenizer reads bytes, with the special
tokens of the architecture's family: BERT's, RoBERTa's, T5's, XLNet's, or those of decoders such as Falcon, which have none to pad with.
"""

from pathlib import Path
from typing import Any

WIDTH, NUM_LAYERS, NUM_HEADS, NUM_POSITIONS = 32, 2, 4, 160
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "input_embedding_size", "d_latents"), WIDTH),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "d_inner", "hidden_dim", "dff"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "num_layers"), NUM_LAYERS),
    **dict.fromkeys(("num_decoder_layers", "depth"), NUM_LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "encoder_attention_heads", "decoder_attention_heads"), NUM_HEADS),
    **dict.fromkeys(("num_heads", "num_latents"), NUM_HEADS),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_encoder_position_embeddings"), NUM_POSITIONS),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "d_head"), WIDTH // NUM_HEADS),
    **{"num_key_value_heads": 2, "ffn_hidden_size": 64, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    **{"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    **{"entity_vocab_size": 8, "entity_emb_size": WIDTH, "pronunciation_vocab_size": 8, "shape_vocab_size": 8, "out_hidden_size": WIDTH},
    **{
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "image_size": 28,
        "patch_size": 14,
        "first_k_dense_replace": 1,
        "num_self_attends_per_block": 1,
    },
}
"""Values of config keys, where an architecture has them."""
OWN_SIZES: dict[str, dict[str, Any]] = {
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "esmc": {"num_key_value_heads": NUM_HEADS},
    "funnel": {"block_sizes": [1, 1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": WIDTH // NUM_HEADS},
    "longformer": {"attention_window": 8},
    "t5": {"decoder_start_token_id": 0},
    "reformer": {"axial_pos_embds_dim": [8, 24], "axial_pos_shape": [8, 20], "num_buckets": 4},
}
"""Values for single architectures, on top of `SIZES`."""
OWN_TOKENIZERS = {"canine": "CanineTokenizer", "perceiver": "PerceiverTokenizer"}
"""Architectures with tokenizers that need no vocabulary."""
ROBERTA = (
    *("roberta", "roberta-prelayernorm", "camembert", "xlm-roberta", "xlm-roberta-xl", "xmod", "data2vec-text", "ibert", "mpnet", "luke"),
    *("longformer", "bart", "mbart", "mvp", "plbart", "bigbird_pegasus", "lilt", "markuplm", "layoutlmv3", "jina_embeddings_v3"),
)
SPECIAL_TOKENS = {
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "roberta": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "t5": ("<pad>", "</s>", "<unk>"),
    "xlnet": ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>"),
    "decoder": ("<|begin_of_text|>", "<|end_of_text|>"),
}
"""Special tokens of each family of tokenizers, in the order of their ids."""
TEMPLATES = {
    "bert": "[CLS] $A [SEP]",
    "roberta": "<s> $A </s>",
    "t5": "$A </s>",
    "xlnet": "$A <sep> <cls>",
    "decoder": "<|begin_of_text|> $A",
}
ROLES = {
    **{"<s>": "bos_token", "<|begin_of_text|>": "bos_token", "</s>": "eos_token", "<|end_of_text|>": "eos_token", "<mask>": "mask_token"},
    **{"<pad>": "pad_token", "[PAD]": "pad_token", "<unk>": "unk_token", "[UNK]": "unk_token", "[MASK]": "mask_token"},
    **{"[CLS]": "cls_token", "<cls>": "cls_token", "[SEP]": "sep_token", "<sep>": "sep_token"},
}


def make_checkpoint(model_type: str, folder: Path) -> None:
    """Write a checkpoint of an architecture and its tokenizer into a folder.

    Raises: any exception of transformers if the sizes do not fit the architecture.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    default = AutoConfig.for_model(model_type)
    tokenizer = make_tokenizer(model_type, is_decoder=getattr(default, "num_key_value_heads", None) is not None)
    tokenizer.save_pretrained(folder)
    ids = {"vocab_size": len(tokenizer), "decoder_start_token_id": tokenizer.pad_token_id}
    ids |= {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    parts = {name: getattr(default, name, None) for name in getattr(default, "sub_configs", {})}
    sizes = find_sizes(default, ids) | OWN_SIZES.get(model_type, {})
    sizes |= {name: find_sizes(part, ids) for name, part in parts.items() if part is not None}
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(AutoConfig.for_model(model_type, **sizes)).save_pretrained(folder)


def find_sizes(default: Any, ids: dict[str, int | None]) -> dict[str, Any]:
    """Return those of `SIZES` and of the ids of special tokens that a config has."""
    keys = default.to_dict()
    sizes = {name: value for name, value in (SIZES | ids).items() if name in keys and value is not None}
    if "pad_token_id" in keys and "vocab_size" in keys:
        sizes["pad_token_id"] = ids["pad_token_id"]
    if "qk_rope_head_dim" in keys:  # multi-head latent attention
        sizes["num_key_value_heads"] = NUM_HEADS
    if isinstance(layer_types := keys.get("layer_types"), list):  # one of each type
        sizes["layer_types"] = list(dict.fromkeys(layer_types))
        sizes["num_hidden_layers"] = len(sizes["layer_types"])
    return sizes


def make_tokenizer(model_type: str, is_decoder: bool) -> Any:
    """Return a tokenizer of bytes with the special tokens of an architecture's family."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    if model_type in OWN_TOKENIZERS:
        return getattr(transformers, OWN_TOKENIZERS[model_type])()
    family = find_family(model_type, is_decoder)
    special = SPECIAL_TOKENS[family]
    vocabulary = {token: number for number, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=TEMPLATES[family], special_tokens=[(token, vocabulary[token]) for token in special]
    )
    roles = {ROLES[token]: token for token in special}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def find_family(model_type: str, is_decoder: bool) -> str:
    """Return the family of an architecture's tokenizer, a key of `SPECIAL_TOKENS`."""
    if model_type in ROBERTA:
        return "roberta"
    if model_type in ("t5", "mt5", "umt5", "t5gemma", "t5gemma2"):
        return "t5"
    if model_type == "xlnet":
        return "xlnet"
    is_gpt = model_type in (
        "gpt2",
        "gpt-sw3",
        "gpt_bigcode",
        "gpt_neo",
        "gpt_neox",
        "gptj",
        "bloom",
        "falcon",
        "mpt",
        "ctrl",
        "openai-gpt",
        "opt",
    )
    return "decoder" if is_decoder or is_gpt or model_type in ("biogpt", "phi") else "bert"
