"""How long a text of a backbone may be. Works without torch."""

from typing import Any


def count_positions(max_position_embeddings: int | None, model_type: str) -> int | None:
    """Return the tokens that the backbone of a `config.json` has positions for, at most; None if it has no limit."""
    if max_position_embeddings is None or max_position_embeddings < 1:  # XLNet has -1
        return None
    return max_position_embeddings - 2 if "roberta" in model_type else max_position_embeddings  # behind the index of the pad token


def count_model_positions(model: Any) -> int | None:
    """Return the tokens that a transformers model has positions for; None if it has no limit.

    Of embeddings of positions with a pad index, as RoBERTa, CamemBERT, MPNet and Longformer have them, the rows behind the index count.
    """
    settings = getattr(model.config, "text_config", None) or model.config
    limits = [count_positions(getattr(settings, "max_position_embeddings", None), "")]
    for name, module in model.named_modules():
        index = getattr(module, "padding_idx", None)
        if "position" in name.rpartition(".")[2] and index is not None and getattr(module, "weight", None) is not None:
            limits.append(len(module.weight) - 1 - index)
    return min((limit for limit in limits if limit is not None), default=None)
