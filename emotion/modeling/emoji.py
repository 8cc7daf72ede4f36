"""Emoji as tokens, for a backbone whose tokenizer does not know them.

WordPiece reads 😂 as an unknown token, and a word that it is attached to as well. Here each emoji becomes a token whose embedding starts
at the mean of the words of its Unicode name; training does the rest. Tokenizer and weights are saved in the model folder as any others.
"""

import unicodedata
from typing import Any

import torch

from emotion.modeling.embeddings import find_word_embedding

BLOCKS = ((0x2600, 0x27BF), (0x1F300, 0x1FAFF))
"""First and last code points of the blocks of symbols and pictographs."""
LEFT_UNKNOWN = "\u2640\u2642"
"""The signs of women and men, as in 🤷‍♀️. Like skin tones they stay unknown tokens, all the same, so that no answer depends on them."""
STOP_WORDS = {"and", "face", "of", "sign", "symbol", "with"}
"""Words of names that say nothing about one emoji."""


def list_emoji() -> dict[str, str]:
    """Return emoji with the words of their names, such as `{"😂": "tears joy"}`; the names are those of this Python's Unicode version."""
    characters = [chr(code) for first, last in BLOCKS for code in range(first, last + 1)]
    symbols = [character for character in characters if unicodedata.category(character) == "So" and character not in LEFT_UNKNOWN]
    names = {character: unicodedata.name(character).lower() for character in symbols}
    return {character: " ".join(word for word in name.split() if word not in STOP_WORDS) or name for character, name in names.items()}


def find_missing_emoji(tokenizer: Any) -> dict[str, str]:
    """Return those of `list_emoji` that a tokenizer reads as an unknown token."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return {}
    emoji = list_emoji()
    token_ids = tokenizer(list(emoji), add_special_tokens=False).input_ids
    return {character: name for (character, name), ids in zip(emoji.items(), token_ids, strict=True) if unknown in ids}


def add_emoji(model: Any, tokenizer: Any) -> int:
    """Give a tokenizer the emoji that it does not know, and their model an embedding of each; return their number.

    A tokenizer that knows all bytes, as those of most decoders, lacks none.
    """
    from tokenizers import AddedToken

    names, embedding = find_missing_emoji(tokenizer), find_word_embedding(model)
    if not names or embedding is None:
        return 0
    words = tokenizer(list(names.values()), add_special_tokens=False).input_ids
    rows = torch.stack([embedding.weight[ids].mean(dim=0) for ids in words]).detach()
    first = len(tokenizer)
    tokenizer.add_tokens([AddedToken(character, normalized=False) for character in names])
    resized = model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        resized.weight[first : first + len(names)] = rows
    return len(names)
