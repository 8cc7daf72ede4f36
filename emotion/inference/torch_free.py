"""From texts to probabilities without torch: what the forms of a model that start quickly have in common.

What they share with `Predictor`: `label_set`, `rule`, `sidecar`, `form`, `predict` and `predict_logits`.
"""

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from emotion.data.padding import batch_by_tokens, pad_rows
from emotion.evaluation.decision import DecisionRule
from emotion.inference.sidecar import Sidecar
from emotion.labels import LabelSet

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class TorchFreePredictor(ABC):
    """A trained model in a form that needs no torch; which one is said by what `answer` does."""

    tokenizer: Any
    label_set: LabelSet
    rule: DecisionRule
    sidecar: Sidecar
    form: str
    pad_token_id: int

    batch_tokens: ClassVar[int]
    """Tokens of a batch, padding included: enough for the matrix products to be fast, few enough for the caches."""

    @property
    def num_at_once(self) -> int:
        """Batches that are answered at the same time."""
        return 1

    @abstractmethod
    def answer(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Return the calibrated logits of a batch, float32 (b, L); ids and mask are int64 (b, t), padded on the right."""

    def predict(self, texts: list[str], description: str | None = None) -> np.ndarray:
        """Return calibrated probabilities, float32 (n, L), in the order of `texts`; `description` shows a progress bar."""
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-self.predict_logits(texts, description)))

    def predict_logits(self, texts: list[str], description: str | None = None) -> np.ndarray:
        """Return the calibrated logits, float32 (n, L)."""
        from tqdm import tqdm

        token_ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        logits = np.zeros((len(texts), len(self.label_set)), dtype=np.float32)
        batches = list(batch_by_tokens(np.array([len(ids) for ids in token_ids]), self.batch_tokens))

        def answer(rows: np.ndarray) -> int:
            logits[rows] = self.answer(*pad_rows(token_ids, rows, self.pad_token_id))
            return len(rows)

        with (
            tqdm(total=len(texts), desc=description, disable=description is None, unit="text", leave=False) as progress,
            ThreadPoolExecutor(self.num_at_once) as pool,
        ):
            for number in (pool.map if len(batches) > 1 else map)(answer, batches):
                progress.update(number)
        return logits


def load_tokenizer(folder: Path, max_length: int) -> Any:
    """Return the tokenizer of a model folder, which cuts to `max_length` tokens and pads nothing; it raises kinds of its own."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return tokenizer
