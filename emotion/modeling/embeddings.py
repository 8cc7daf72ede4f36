"""The word embedding of a transformers model: find it, check it against a tokenizer, and add a row for a new pad token."""

from typing import Any

import torch

from emotion.errors import ModelError
from emotion.modeling.backbones import list_configs


def find_word_embedding(model: Any) -> Any:
    """Return the module that maps token ids to vectors; None for a model without one, such as CANINE with its hashed characters."""
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return embedding if getattr(getattr(embedding, "weight", None), "ndim", 0) == 2 else None


def add_pad_embedding(model: Any, pad_token_id: int) -> None:
    """Give the model a row of zeros for the pad token if its id is the first one beyond the vocabulary; the model is saved with it."""
    embedding = find_word_embedding(model)
    if embedding is None or pad_token_id != len(embedding.weight):
        return
    resized = model.resize_token_embeddings(pad_token_id + 1, mean_resizing=False)
    resized.padding_idx = pad_token_id
    with torch.no_grad():
        resized.weight[pad_token_id] = 0  # the same whenever an adapter's backbone is loaded again
    for settings in list_configs(model.config):
        if hasattr(settings, "pad_token_id"):
            settings.pad_token_id = pad_token_id


def check_token_ids(model: Any, tokenizer: Any, location: str) -> None:
    """Check that the model has an embedding for each id that its tokenizer can give.

    Raises: ModelError if it has fewer.
    """
    embedding = find_word_embedding(model)
    num_ids = 1 + max([*tokenizer.get_vocab().values(), *tokenizer("a").input_ids])
    if embedding is not None and num_ids > len(embedding.weight):
        raise ModelError(
            f"{location}: its tokenizer has {num_ids:,} tokens, its model {len(embedding.weight):,} embeddings; give a matching pair"
        )
