"""From texts to probabilities without torch: the base class of the numpy and ONNX backends.

It has the interface of `Predictor`: `label_set`, `rule`, `sidecar`, `backend_name`, `predict` and `predict_logits`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from emotion.checks import is_integer, read_object
from emotion.data.padding import batch_by_tokens, pad_rows
from emotion.data.segments import Segment, count_segments, flatten, mark_ends
from emotion.errors import ModelError
from emotion.evaluation.combination import combine_logits
from emotion.evaluation.decision import DecisionRule
from emotion.inference.sidecar import REMEDY, Sidecar, check_stride, read_config
from emotion.inference.text_checks import TextChecks, build_letter_weights, find_foreign, find_unknown
from emotion.labels import LabelSet
from emotion.text import is_quiet

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
UNKNOWN_TOKENS = ("[UNK]", "<unk>")
"""Names of the token that stands for what a tokenizer does not know."""
PAD_TOKEN_ID = ("an integer of at least 0", lambda value: is_integer(value, 0))
"""What the id of the pad token may be, for `check_values`."""


@dataclass(frozen=True)
class TorchFreePredictor(ABC):
    """A trained model that runs without torch; subclasses define `compute_logits`."""

    tokenizer: Any
    label_set: LabelSet
    rule: DecisionRule
    sidecar: Sidecar
    backend_name: str
    """Such as `numpy` or `ONNX fp32`."""
    pad_token_id: int

    is_batch_faster: ClassVar[bool] = True
    """Whether a batch of texts takes less time than its texts one by one."""
    batch_tokens: ClassVar[int]
    """Tokens of a batch, padding included: enough for fast matrix products, few enough for the CPU's caches."""

    @property
    def num_concurrent_batches(self) -> int:
        """Batches that are predicted at the same time."""
        return 1

    @abstractmethod
    def compute_logits(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Return the calibrated logits of a batch, float32 (b, L); ids and mask are int64 (b, t), padded on the right."""

    def predict(self, texts: list[str], description: str | None = None) -> np.ndarray:
        """Return calibrated probabilities, float32 (n, L), in the order of `texts`; `description` names a progress bar."""
        return _apply_sigmoid(self.predict_logits(texts, description))

    def predict_logits(self, texts: list[str], description: str | None = None) -> np.ndarray:
        """Return the calibrated logits, float32 (n, L)."""
        return self._predict_tokens(*list_sequences(self.tokenizer.encode_batch_fast(texts), self.sidecar), description)

    def predict_checked(self, texts: list[str], description: str | None = None) -> tuple[np.ndarray, TextChecks]:
        """Return what `predict` returns, and what is to know about the answers."""
        token_ids, starts, checks = check_texts(texts, self.tokenizer, self.sidecar)
        return _apply_sigmoid(self._predict_tokens(token_ids, starts, description)), checks

    def split(self, text: str) -> list[Segment]:
        """Return the segments that a long text is predicted from; none if it is one sequence."""
        if self.sidecar.segments is None:
            return []
        encoding = self.tokenizer.encode(text)
        return [Segment(part.ids, part.offsets) for part in (encoding, *encoding.overflowing)] if encoding.overflowing else []

    def count_read(self, text: str) -> int:
        """Return how many characters of a text the model reads, from its beginning."""
        encoding = self.tokenizer.encode(text)
        is_cut = self.sidecar.segments is None and bool(encoding.overflowing)
        return Segment(encoding.ids, encoding.offsets).span[1] if is_cut else len(text)

    def predict_sequences(self, token_ids: list[list[int]]) -> np.ndarray:
        """Return the calibrated logits of sequences with their special tokens, float32 (m, L)."""
        return self._predict_tokens(token_ids, None, None)

    def _predict_tokens(self, token_ids: list[list[int]], starts: np.ndarray | None, description: str | None) -> np.ndarray:
        """Return the calibrated logits of texts, float32 (n, L); with `starts`, `token_ids` are those of their segments."""
        from tqdm import tqdm

        token_ids = [ids or [self.pad_token_id] for ids in token_ids]  # as torch reads a text without a token
        num_texts, num_ending = len(token_ids if starts is None else starts), mark_ends(starts, len(token_ids))
        logits = np.zeros((len(token_ids), len(self.label_set)), dtype=np.float32)
        batches = list(batch_by_tokens(np.array([len(ids) for ids in token_ids]), self.batch_tokens))

        def predict_batch(rows: np.ndarray) -> int:
            logits[rows] = self.compute_logits(*pad_rows(token_ids, rows, self.pad_token_id))
            return int(num_ending[rows].sum())

        with (
            tqdm(total=num_texts, desc=description, disable=description is None or is_quiet(), unit="text", leave=False) as progress,
            ThreadPoolExecutor(self.num_concurrent_batches) as pool,
        ):
            for num_ended in (pool.map if len(batches) > 1 else map)(predict_batch, batches):
                progress.update(num_ended)
        self.label_set.check_logits(logits)
        return combine_logits(logits, starts, self.sidecar.combination)


def list_sequences(encodings: Sequence[Any], sidecar: Sidecar) -> tuple[list[list[int]], np.ndarray | None]:
    """Return the token ids of each text, and None; of a model that splits long texts, those of each segment, and where each text starts."""
    if sidecar.segments is None:
        return [encoding.ids for encoding in encodings], None
    return flatten([[encoding.ids, *(segment.ids for segment in encoding.overflowing)] for encoding in encodings])


def check_texts(texts: Sequence[str], tokenizer: Any, sidecar: Sidecar) -> tuple[list[list[int]], np.ndarray | None, TextChecks]:
    """Return what `list_sequences` returns, and what is to know about answers to the texts."""
    encodings = tokenizer.encode_batch_fast(list(texts))
    token_ids, starts = list_sequences(encodings, sidecar)
    unknown_ids = [token_id for token_id in map(tokenizer.token_to_id, UNKNOWN_TOKENS) if token_id is not None]
    is_unknown = find_unknown(token_ids, next(iter(unknown_ids), None), tokenizer.num_special_tokens_to_add(False), starts)
    is_foreign = find_foreign(texts, build_letter_weights(sidecar.scripts))
    if starts is not None:
        is_cut = np.zeros(len(encodings), dtype=bool)
        return token_ids, starts, TextChecks(is_cut, is_unknown, is_foreign, count_segments(starts, len(token_ids)))
    is_cut = np.array([bool(encoding.overflowing) for encoding in encodings], dtype=bool)
    return token_ids, None, TextChecks(is_cut, is_unknown, is_foreign)


def _apply_sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


def check_tokenizer(folder: Path) -> None:
    """Check that a model folder has the file that the tokenizers package reads.

    Raises: ModelError if it has none.
    """
    if not (folder / TOKENIZER).is_file():
        raise ModelError(
            f"{folder}: has no {TOKENIZER}, which ONNX and numpy need: transformers has its tokenizer in Python only, as those of BERTweet "
            "and Japanese BERT, or the file is lost; use the model with torch"
        )


def load_tokenizer(folder: Path, sidecar: Sidecar) -> Any:
    """Return the tokenizer of a model folder, which truncates to `max_length` tokens or splits what is longer, and does not pad.

    Raises: exceptions of the tokenizers package if the file cannot be read; ModelError if there is none, it has ids beyond the model's
        vocabulary, or segments would not go forward.
    """
    from tokenizers import Tokenizer

    check_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    num_ids, vocab_size = 1 + max([*tokenizer.get_vocab().values(), *tokenizer.encode("a").ids]), read_config(folder).get("vocab_size")
    if vocab_size is not None and num_ids > vocab_size:
        raise ModelError(f"{folder}: its tokenizer has {num_ids:,} tokens, its config.json {vocab_size:,}; {REMEDY}")
    settings = read_object(path, REMEDY) if (path := folder / TOKENIZER_CONFIG).is_file() else {}
    tokenizer.encode_special_tokens = settings.get("split_special_tokens") is True  # those in a text are then plain characters
    check_stride(sidecar, tokenizer.num_special_tokens_to_add(False), str(folder))
    side = "left" if settings.get("truncation_side") == "left" else "right"  # transformers cuts there, and tokenizer.json may say otherwise
    tokenizer.enable_truncation(sidecar.max_length, stride=sidecar.stride or 0, direction=side)
    tokenizer.no_padding()
    return tokenizer
