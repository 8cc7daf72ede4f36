"""Load a tokenizer, and make sure that it has a token to pad with that never occurs in a text.

A text cannot contain special tokens: `</s>` in a text is four characters, and not the end of the text, at which BART reads its answer.
"""

import logging
import re
from pathlib import Path
from typing import Any

from emotion.config import ModelConfig
from emotion.errors import ModelError
from emotion.modeling.backbones import BUNDLED_NAME, NO_REMOTE_CODE, translate_loading_errors
from emotion.modeling.packaged import locate_packaged

log = logging.getLogger(__name__)

RESERVED = (re.compile("pad", re.I), re.compile("reserved", re.I), re.compile("unused", re.I))
"""Names of special tokens that checkpoints keep free, such as Llama 3's `<|finetune_right_pad_id|>` and `<|reserved_special_token_0|>`."""
NEW_PAD_TOKENS = ("<pad>", "[PAD]", "<|pad|>")
RARE_TEXT = "\ua66e \U0001fae8 \u0c84 \U000e0041"
"""Characters that no vocabulary has. Tokenizers that fall back to bytes have no unknown token for them either."""


def load_tokenizer(location: str, revision: str | None = None) -> Any:
    """Return the tokenizer of a model, with right padding and a pad token that occurs in no text.

    Raises: ModelError if it cannot be loaded, or has no vocabulary.
    """
    from transformers import AutoTokenizer

    with translate_loading_errors(location):
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision or "main", **NO_REMOTE_CODE)
    # Where the file of the vocabulary is missing, transformers builds a tokenizer of special tokens, which reads all texts alike.
    if not set(tokenizer.get_vocab()) - {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}:
        remedy = "restore tokenizer.json, or the file that holds it, or save the model again"
        raise ModelError(f"{location}: its tokenizer has no vocabulary: {remedy}")
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        if (token := find_pad_token(tokenizer)) is not None:
            tokenizer.pad_token = token
        else:
            new = next(name for name in NEW_PAD_TOKENS if name not in tokenizer.get_vocab())
            tokenizer.add_special_tokens({"pad_token": new})
    return tokenizer


def load_backbone_tokenizer(config: ModelConfig, location: str) -> Any:
    """Return the tokenizer of a backbone, which reads special tokens in a text as plain characters.

    With random weights and no tokenizer files, it is the bundled one. The folder of a trained model says how texts are read; in those of
    earlier versions, special tokens in a text count as such.
    """
    revision = config.revision
    if config.random_weights and not (Path(location) / "tokenizer_config.json").is_file():
        log.warning("%s: no tokenizer found; random weights use the tokenizer of %s instead", location, BUNDLED_NAME)
        location, revision = str(locate_packaged(BUNDLED_NAME)), None
    tokenizer = load_tokenizer(location, revision)
    tokenizer.split_special_tokens = True
    tokenizer.init_kwargs["split_special_tokens"] = True  # what is saved
    return tokenizer


def find_pad_token(tokenizer: Any) -> str | None:
    """Return a token of the vocabulary that no text contains: the unknown token of a tokenizer that knows all bytes, or a reserved one.

    None if there is no such token. End tokens are no choice: decoders read their answer at the last token that is not padding.
    """
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id not in tokenizer(RARE_TEXT, split_special_tokens=True).input_ids:
        return str(tokenizer.unk_token)
    named = [str(token) for token in tokenizer.special_tokens_map.values()]
    special = [str(token) for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special]
    free = [token for pattern in RESERVED for token in special if pattern.search(token) and token not in named]
    return free[0] if free else None
