"""Texts on which an answer means little: cut at `max_length`, of unknown tokens, or in a script that the training texts do not have.

Texts that were split into segments are counted here, too.

Works without torch. Predictors find what they can from the token ids that they predict from, so no text is tokenized twice for this.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from emotion.inference.sidecar import Sidecar

MIN_SCRIPT_FRACTION = 0.01
"""Fraction of the letters of the training texts from which a script counts as seen: less are names and decoration."""
MAX_UNKNOWN_FRACTION = 0.5
"""Fraction of unknown tokens in a text from which on the answer means little."""

ALL_FIT = "no text is longer than the model reads (data.max_length)"


@dataclass(frozen=True)
class TextChecks:
    """What was found in n texts; each is bool (n,)."""

    is_cut: np.ndarray
    """Longer than `max_length` tokens; the rest was not read."""
    is_unknown: np.ndarray
    """Most tokens are unknown to the model."""
    is_foreign: np.ndarray
    """Most letters are of a script that the training texts do not have."""
    num_segments: np.ndarray | None = None
    """Segments that each text was split into, int (n,); None if the model cuts long texts."""

    @classmethod
    def build_empty(cls, num_texts: int) -> "TextChecks":
        """Return checks that found nothing."""
        return cls(*(np.zeros(num_texts, dtype=bool) for field in fields(cls) if field.name.startswith("is_")))

    def count(self, rows: np.ndarray | slice = slice(None)) -> dict[str, int]:
        """Return the number of the given texts by what was found: `cut`, `unknown`, `foreign`.

        Of a model that splits long texts also those that were `split`, and the `segments` that these are.
        """
        found = {name.removeprefix("is_"): int(values[rows].sum()) for name, values in vars(self).items() if name.startswith("is_")}
        return found if self.num_segments is None else found | count_split(self.num_segments[rows])

    @classmethod
    def concatenate(cls, parts: Sequence["TextChecks"]) -> "TextChecks":
        """Return the checks of several lists of texts, one after the other."""
        found = [[getattr(part, field.name) for part in parts] for field in fields(cls)]
        joined: list[Any] = [None if any(values is None for values in of_field) else np.concatenate(of_field) for of_field in found]
        return cls(*joined)

    @property
    def counts(self) -> dict[str, int]:
        """What `count` returns for all texts."""
        return self.count()


def count_split(num_segments: np.ndarray) -> dict[str, int]:
    """Return how many texts were `split`, and into how many `segments`, from the number of segments of each text, int (n,)."""
    split = num_segments[num_segments > 1]
    return {"split": len(split), "segments": int(split.sum())}


class LetterWeights(dict[str, int]):
    """1 for a letter of a script seen in training, -1 for one of another script, 0 for any other character, found on first use."""

    def __init__(self, scripts: Iterable[str]) -> None:
        self._scripts = set(scripts)

    def __missing__(self, character: str) -> int:
        script = find_script(character)
        weight = 0 if script is None else 1 if script in self._scripts else -1
        self[character] = weight
        return weight


@cache
def find_script(character: str) -> str | None:
    """Return the script of a letter, such as LATIN, CYRILLIC or CJK; None for any other character."""
    if not character.isalpha():
        return None
    plain = unicodedata.normalize("NFKC", character)[0]  # of a fullwidth or a mathematical letter, the letter
    return unicodedata.name(plain, "unnamed").replace("-", " ").split()[0]


def measure_scripts(texts: Iterable[str]) -> dict[str, float]:
    """Return the fraction of letters of each script in training texts, the most frequent first; those below 0.01 % are left out."""
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    counts: Counter[str] = Counter()
    for character, count in characters.items():
        if (script := find_script(character)) is not None:
            counts[script] += count
    total = counts.total()
    return {script: round(count / total, 4) for script, count in counts.most_common() if count / total >= 1e-4}


def build_letter_weights(scripts: dict[str, float] | None) -> LetterWeights | None:
    """Return the weights for a model trained on texts with these scripts; None where they are not known, or the texts had no letters."""
    seen = [script for script, fraction in (scripts or {}).items() if fraction >= MIN_SCRIPT_FRACTION]
    return LetterWeights(seen) if seen else None


def find_foreign(texts: Sequence[str], weights: LetterWeights | None) -> np.ndarray:
    """Return whether most letters of each text are of scripts that were not seen, bool (n,)."""
    if weights is None:
        return np.zeros(len(texts), dtype=bool)
    is_latin_seen, weigh = weights["a"] > 0, weights.__getitem__
    return np.array([not (is_latin_seen and text.isascii()) and sum(map(weigh, text)) < 0 for text in texts], dtype=bool)


def find_unknown(
    token_ids: Sequence[Sequence[int]], unknown_id: int | None, num_special: int, starts: np.ndarray | None = None
) -> np.ndarray:
    """Return whether most tokens of each text are unknown, bool (n,); `num_special` of its tokens are not of the text.

    `starts`, int (n,), is the position of each text's first segment in `token_ids`; None where each row is a text.
    """
    if unknown_id is None:
        return np.zeros(len(token_ids if starts is None else starts), dtype=bool)
    num_unknown = np.array([ids.count(unknown_id) for ids in token_ids], dtype=np.int64)
    num_tokens = np.array([len(ids) - num_special for ids in token_ids], dtype=np.int64)
    if starts is not None:
        num_unknown, num_tokens = np.add.reduceat(num_unknown, starts), np.add.reduceat(num_tokens, starts)
    return num_unknown > MAX_UNKNOWN_FRACTION * num_tokens


def describe_text(text: str, checks: TextChecks, row: int, sidecar: "Sidecar") -> list[str]:
    """Return what to know about the answer to one of the texts that were checked, one line each."""
    lines, max_length = [], sidecar.max_length
    if checks.is_foreign[row]:
        weights = build_letter_weights(sidecar.scripts)  # beside two others, the commonest script may be one that was seen
        assert weights is not None
        foreign = Counter(find_script(character) for character in text if weights[character] < 0)
        name = str(foreign.most_common(1)[0][0])
        name = name if len(name) < 4 else name.capitalize()
        lines.append(f"most letters are {name}, which the training texts do not have: the answer means little")
    elif checks.is_unknown[row]:
        lines.append("most words are unknown to the model: the answer means little")
    if checks.is_cut[row]:
        lines.append(f"longer than {max_length} tokens: the rest was not read")
    if checks.num_segments is not None and checks.num_segments[row] > 1:
        lines.append(f"longer than {max_length} tokens: read in {checks.num_segments[row]:,} segments")
    return lines


def describe_counts(counts: dict[str, int], num_texts: int) -> list[str]:
    """Return a sentence on each sort of texts that was found."""
    sentences = {
        "cut": "are longer than the model reads (data.max_length) and were cut",
        "split": f"are longer than data.max_length and were split into {counts.get('segments', 0):,} segments",
        "unknown": "are mostly of words that the model does not know: their answers mean little",
        "foreign": "are mostly in a script that the training texts do not have: their answers mean little",
    }
    return [
        f"{counts[name]:,} of {num_texts:,} texts ({counts[name] / num_texts:.1%}) {sentence}"
        for name, sentence in sentences.items()
        if counts.get(name)
    ]
