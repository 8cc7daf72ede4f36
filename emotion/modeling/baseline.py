"""The baseline: TF-IDF of words and word pairs, and one logistic regression per label.

It has the interface of the other models: a tokenizer returns ids, a module maps ids and mask to logits. Prediction, evaluation and saving
therefore need no special case. Fitting needs scikit-learn; prediction needs torch only.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from emotion.config import BASELINE
from emotion.errors import DataError
from emotion.modeling.backbones import translate_loading_errors
from emotion.words import COUNTED_WORD

MIN_TEXTS = 2
"""Training texts that must contain an n-gram."""
INVERSE_REGULARIZATION = 3.0
"""scikit-learn's `C`, chosen on the validation rows of GoEmotions."""
SMOOTHING = 1e-3
"""Keeps the log-odds finite that a label gets as its bias if all training rows have it, or none."""
VOCABULARY, WEIGHTS = "vocabulary.json", "model.safetensors"


class NgramTokenizer:
    """Maps texts to the ids of their distinct known words and word pairs, words first. Id 0 is padding and has weight 0."""

    pad_token_id = 0

    def __init__(self, ngrams: list[str]):
        self.ngrams = ngrams
        self._ids = {ngram: position for position, ngram in enumerate(ngrams, start=1)}

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> SimpleNamespace:
        known = ([self._ids[ngram] for ngram in list_ngrams(text) if ngram in self._ids] for text in texts)
        return SimpleNamespace(input_ids=[ids[:max_length] for ids in known])

    def find_unknown(self, texts: list[str], token_ids: list[list[int]]) -> np.ndarray:
        """Return whether most words of each text are unknown, bool (n,); `token_ids` are those of the texts."""
        # Where there are more n-grams than words, words are known, and pairs of them: most texts with blanks are not read again.
        pairs = zip(texts, token_ids, strict=True)
        return np.array(
            [(len(ids) <= text.count(" ") + 1 or not text.isascii()) and self._is_unknown(text) for text, ids in pairs], dtype=bool
        )

    def _is_unknown(self, text: str) -> bool:
        words = COUNTED_WORD.findall(text.lower())
        return 2 * sum(word in self._ids for word in words) < len(words)

    def save_pretrained(self, folder: Path) -> None:
        (folder / VOCABULARY).write_text(json.dumps(self.ngrams, ensure_ascii=False), encoding="utf-8")


class TfidfClassifier(nn.Module):
    """Logits are a linear function of a text's inverse document frequencies, normalized to length 1."""

    idf: torch.Tensor

    def __init__(self, num_ngrams: int, num_labels: int):
        super().__init__()
        self.head = nn.Linear(1 + num_ngrams, num_labels)
        self.register_buffer("idf", torch.zeros(1 + num_ngrams))
        self.config = SimpleNamespace(model_type=BASELINE, num_labels=num_labels)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        """Return logits, (b, L), for n-gram ids, (b, t)."""
        values = self.idf[input_ids] * attention_mask  # (b, t)
        values = nn.functional.normalize(values, dim=1)
        return SimpleNamespace(logits=torch.einsum("bt,btl->bl", values, self.head.weight.T[input_ids]) + self.head.bias)

    def save_pretrained(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)


def list_ngrams(text: str) -> list[str]:
    """Return the distinct words of a text, then its distinct pairs of adjacent words, in order of appearance."""
    words = COUNTED_WORD.findall(text.lower())
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    return list(dict.fromkeys(words)) + list(dict.fromkeys(pairs))


def fit_baseline(
    texts: list[str], targets: np.ndarray, max_length: int, seed: int, is_judged: np.ndarray | None = None
) -> tuple[TfidfClassifier, NgramTokenizer]:
    """Return the model fitted to training texts and their labels, bool, or fractions of raters, (n, L), and its tokenizer.

    `is_judged`, bool (n, L), says which labels were annotated, None if all were: each label is fitted to the rows in which it was.

    Raises: DataError if no n-gram occurs in two texts.
    """
    from scipy.sparse import csr_matrix
    from sklearn.preprocessing import normalize

    num_texts = Counter(ngram for text in texts for ngram in list_ngrams(text))
    ngrams = sorted(ngram for ngram, count in num_texts.items() if count >= MIN_TEXTS)
    if not ngrams:
        raise DataError(f"model.backbone={BASELINE}: no word occurs in {MIN_TEXTS} of the {len(texts)} training texts; add training texts")
    tokenizer = NgramTokenizer(ngrams)
    model = TfidfClassifier(len(ngrams), targets.shape[1])
    # The weights of scikit-learn's TfidfVectorizer(binary=True, smooth_idf=True).
    idf = np.array([0.0] + [np.log((1 + len(texts)) / (1 + num_texts[ngram])) + 1 for ngram in ngrams])
    ids = tokenizer(texts, max_length=max_length).input_ids
    ends = np.cumsum([0] + [len(row) for row in ids])
    columns = np.array([column for row in ids for column in row])
    features = normalize(csr_matrix((idf[columns], columns, ends), shape=(len(texts), len(idf))))
    with torch.no_grad():
        model.idf.copy_(torch.from_numpy(idf))
        for label, target in enumerate(targets.T):
            rows = None if is_judged is None else np.flatnonzero(is_judged[:, label])
            weights, bias = _fit_label(features, target, seed) if rows is None else _fit_label(features[rows], target[rows], seed)
            model.head.weight[label] = torch.from_numpy(weights)
            model.head.bias[label] = bias
    return model.eval(), tokenizer


def load_baseline(location: str, num_labels: int, revision: str | None = None) -> tuple[TfidfClassifier, NgramTokenizer]:
    """Return the saved model and tokenizer of a folder or Hub id.

    Raises: ModelError if they are missing or do not fit each other.
    """
    from safetensors.torch import load_file

    with translate_loading_errors(location):
        vocabulary, weights = (_find_file(location, name, revision) for name in (VOCABULARY, WEIGHTS))
        tokenizer = NgramTokenizer(json.loads(vocabulary.read_text(encoding="utf-8")))
        model = TfidfClassifier(len(tokenizer.ngrams), num_labels)
        model.load_state_dict(load_file(weights))
    return model.eval(), tokenizer


def _fit_label(features: Any, targets: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Return weights and bias of one label's logistic regression; `targets`, (n,), are bool, or fractions in [0, 1].

    A row with a fraction p counts as a positive of weight p and a negative of weight 1 - p, whose loss is the cross-entropy of p.
    """
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    gold, weights = targets > 0, None
    if len(mixed := np.flatnonzero(gold & (targets < 1))):
        features, gold = vstack([features, features[mixed]]), np.append(gold, np.zeros(len(mixed), dtype=bool))
        weights = np.concatenate([np.where(targets > 0, targets, 1), 1 - targets[mixed]])
    if gold.all() or not gold.any():
        frequency = gold.mean() if len(gold) else 0.0
        return np.zeros(features.shape[1]), float(np.log((frequency + SMOOTHING) / (1 - frequency + SMOOTHING)))
    fitted = LogisticRegression(C=INVERSE_REGULARIZATION, solver="liblinear", random_state=seed).fit(features, gold, weights)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _find_file(location: str, name: str, revision: str | None) -> Path:
    if Path(location).is_dir():
        return Path(location) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(location, name, revision=revision))
