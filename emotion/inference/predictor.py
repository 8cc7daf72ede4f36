"""From texts to probabilities with torch, for a run folder, a model folder or a Hub id."""

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import expit
from tqdm import tqdm

from emotion.cpu import fast_path
from emotion.data.batching import Batch, TokenizedTexts, tokenize
from emotion.data.padding import batch_by_tokens
from emotion.data.segments import Segment, split_text
from emotion.errors import ModelError
from emotion.evaluation.combination import combine_logits
from emotion.evaluation.decision import DecisionRule
from emotion.inference.model_folder import check_fingerprint
from emotion.inference.sidecar import Sidecar, check_stride, find_model_folder, read_sidecar
from emotion.inference.text_checks import TextChecks, build_letter_weights, find_foreign, find_unknown
from emotion.labels import LabelSet
from emotion.modeling.baseline import NgramTokenizer
from emotion.modeling.build import check_length, load_trained
from emotion.modeling.prediction import predict_logits
from emotion.text import is_quiet

BATCH_TOKENS = {"cpu": 768, "cuda": 16_384}
"""Tokens of a batch, padding included: enough for fast matrix products, few enough for a CPU's caches."""
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
TOKENIZING = threading.Lock()
"""Held by a thread that tokenizes: each call of a tokenizer of transformers sets where the next one truncates."""


@dataclass(frozen=True)
class Predictor:
    """A trained model on a device."""

    model: Any
    tokenizer: Any
    label_set: LabelSet
    rule: DecisionRule
    sidecar: Sidecar
    device: torch.device

    is_batch_faster: ClassVar[bool] = True
    """Whether a batch of texts takes less time than its texts one by one."""

    @classmethod
    def load(cls, location: str, revision: str | None = None, backbone: str | None = None) -> "Predictor":
        """Return the predictor of a run folder, model folder or Hub id, on a GPU if there is one.

        `backbone` is the folder or Hub id of an adapter's backbone, if it is not where the adapter was trained on it.

        Raises: ModelError if it is not a model of this project.
        """
        folder = find_model_folder(location)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        sidecar, rule = read_sidecar(folder, revision)
        if backbone is not None:
            if not sidecar.is_adapter:
                raise ModelError(f"--backbone {backbone}: {location} is a full model, which needs no backbone; leave it out")
            sidecar = replace(sidecar, model=replace(sidecar.model, backbone=backbone, revision=None))
        label_set = LabelSet(sidecar.labels)
        precision = sidecar.precision if device.type == "cuda" else "fp32"
        model, tokenizer = load_trained(folder, sidecar.model, label_set, precision, sidecar.is_adapter, revision)
        check_fingerprint(model, sidecar, location)
        check_length(model, sidecar.max_length, f"{location}: max_length")
        if sidecar.segments is not None:
            check_stride(sidecar, tokenizer.num_special_tokens_to_add(pair=False), location)
        return cls(fast_path.optimize_encoder(model.to(device), device), tokenizer, label_set, rule, sidecar, device)

    @property
    def backend_name(self) -> str:
        """Backend and device, such as `torch on cpu`."""
        return f"torch on {self.device.type}"

    def predict(self, texts: list[str], description: str | None = None) -> np.ndarray:
        """Return calibrated probabilities, float32 (n, L), in the order of `texts`; `description` names a progress bar."""
        return expit(self.predict_logits(texts, description))

    def predict_logits(
        self, texts: list[str], description: str | None = None, is_alone: bool = False, is_padded: bool = False
    ) -> np.ndarray:
        """Return the calibrated logits, float32 (n, L).

        `is_alone` predicts each text in a batch of its own; `is_padded` pads every batch to `max_length`.
        """
        return self._predict_tokens(self._tokenize(texts, description), description, is_alone, is_padded)

    def predict_checked(self, texts: list[str], description: str | None = None) -> tuple[np.ndarray, TextChecks]:
        """Return what `predict` returns, and what is to know about the answers."""
        tokenized = self._tokenize(texts, description)
        probabilities = expit(self._predict_tokens(tokenized, description))
        tokenizer = self.tokenizer
        if isinstance(tokenizer, NgramTokenizer):
            is_unknown = tokenizer.find_unknown(texts, tokenized.token_ids)
        else:
            num_special = tokenizer.num_special_tokens_to_add(pair=False)
            is_unknown = find_unknown(tokenized.token_ids, tokenizer.unk_token_id, num_special, tokenized.starts)
        is_cut = find_cut(tokenizer, texts, tokenized, self.sidecar.max_length)
        is_foreign = find_foreign(texts, build_letter_weights(self.sidecar.scripts))
        return probabilities, TextChecks(is_cut, is_unknown, is_foreign, tokenized.num_segments)

    def count_segments(self, texts: list[str]) -> np.ndarray:
        """Return the number of sequences that each text is predicted from, int64 (n,)."""
        num_segments = self._tokenize(texts, None).num_segments
        return np.ones(len(texts), dtype=np.int64) if num_segments is None else num_segments

    def split(self, text: str) -> list[Segment]:
        """Return the segments that a long text is predicted from; none if it is one sequence."""
        if self.sidecar.segments is None:
            return []
        segments = self._split(text, self.sidecar.segments.stride)
        return segments if len(segments) > 1 else []

    def count_read(self, text: str) -> int:
        """Return how many characters of a text the model reads, from its beginning."""
        if self.sidecar.segments is not None or not getattr(self.tokenizer, "is_fast", False):
            return len(text)  # in segments, or a tokenizer that does not say where its tokens are
        first, *others = self._split(text, 0)
        return first.span[1] if others else len(text)

    def predict_sequences(self, token_ids: list[list[int]]) -> np.ndarray:
        """Return the calibrated logits of sequences with their special tokens, float32 (m, L)."""
        return self._predict_tokens(TokenizedTexts(token_ids, self.tokenizer.pad_token_id), None)

    def _tokenize(self, texts: list[str], description: str | None) -> TokenizedTexts:
        title, sidecar = description and f"{description}: tokenize", self.sidecar
        with TOKENIZING:
            return tokenize(self.tokenizer, texts, sidecar.max_length, title, sidecar.stride)

    def _split(self, text: str, stride: int) -> list[Segment]:
        with TOKENIZING:
            return split_text(self.tokenizer, text, self.sidecar.max_length, stride, has_offsets=True)

    def _predict_tokens(
        self, tokenized: TokenizedTexts, description: str | None, is_alone: bool = False, is_padded: bool = False
    ) -> np.ndarray:
        """Return the calibrated logits, float32 (n, L); the options are those of `predict_logits`."""
        num_ending = tokenized.num_ending
        batch_tokens = 1 if is_alone else BATCH_TOKENS[self.device.type]
        width = self.sidecar.max_length if is_padded else 0
        dtype = AUTOCAST.get(self.sidecar.precision)
        with (
            tqdm(
                total=tokenized.num_texts, desc=description, disable=description is None or is_quiet(), unit="text", leave=False
            ) as progress,
            torch.autocast("cuda", dtype) if dtype is not None and self.device.type == "cuda" else nullcontext(),
        ):

            def collate() -> Iterator[Batch]:
                for rows in batch_by_tokens(np.maximum(tokenized.lengths, width), batch_tokens):
                    yield tokenized.collate(rows, width=width)
                    progress.update(int(num_ending[rows].sum()))

            logits = predict_logits(self.model, collate(), len(tokenized.token_ids), self.device)
        self.label_set.check_logits(logits)
        return combine_logits(logits, tokenized.starts, self.sidecar.combination)


def find_cut(tokenizer: Any, texts: list[str], tokenized: TokenizedTexts, max_length: int) -> np.ndarray:
    """Return whether each text has more than `max_length` tokens, to which it was cut, bool (n,); False where it was split."""
    if tokenized.starts is not None:
        return np.zeros(len(texts), dtype=bool)
    rows = np.flatnonzero(tokenized.lengths >= max_length)  # only these are tokenized again
    is_cut = np.zeros(len(texts), dtype=bool)
    with TOKENIZING:
        is_cut[rows] = tokenize(tokenizer, [texts[row] for row in rows], max_length + 1).lengths > max_length
    return is_cut
