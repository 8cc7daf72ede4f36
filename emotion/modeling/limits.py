"""How long a text of a backbone may be. Works without torch."""


def count_positions(max_position_embeddings: int | None, model_type: str) -> int | None:
    """Return the tokens that the backbone of a transformers config has positions for; None if it has no limit."""
    if max_position_embeddings is not None and "roberta" in model_type:
        return max_position_embeddings - 2  # RoBERTa's positions start behind the index of the pad token
    return max_position_embeddings
