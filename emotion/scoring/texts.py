"""The texts of rows: which can be scored and why others cannot, and their probabilities."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion.data.reading.encodings import NOT_UTF_8
from emotion.data.reading.rows import BadRow
from emotion.data.reading.streams import Source
from emotion.evaluation.parents import ParentModel
from emotion.inference.text_checks import TextChecks
from emotion.scoring.formats import find_unwritable
from emotion.scoring.parts import Part
from emotion.text import is_writable_text

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor
    from emotion.inference.torch_free import TorchFreePredictor


def select_texts(part: Part, source: Source, output: Path) -> tuple[dict[int, str], list[BadRow]]:
    """Return the texts that can be scored, by their position in the part, and the rows that cannot, in order."""
    column = source.columns.index(source.text_column)
    texts: dict[int, str] = {}
    bad_rows: list[BadRow] = []
    for number, entry in enumerate(part):
        if isinstance(entry, BadRow):
            bad_rows.append(entry)
        elif reason := find_fault(entry.values[column]) or find_unwritable(source.columns, entry.values, output):
            bad_rows.append(BadRow.describe(entry.path, entry.line, reason, entry.values))
        else:
            texts[number] = entry.values[column]
    return texts, bad_rows


def find_fault(text: Any) -> str | None:
    """Return why a text cannot be scored, or None."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return "empty text"
    if not isinstance(text, str):
        return f"text is {text!r}, not a string"
    return None if is_writable_text(text) else NOT_UTF_8


def predict_texts(
    predictor: "Predictor | TorchFreePredictor", parents: ParentModel | None, texts: list[str]
) -> tuple[np.ndarray, TextChecks]:
    """Return the probabilities of the labels, or of the parents of a taxonomy, float32 (n, L), and what was found in the texts."""
    if not texts:
        num_labels = len(predictor.label_set if parents is None else parents.label_set)
        return np.zeros((0, num_labels), np.float32), TextChecks.build_empty(0)
    probabilities, checks = predictor.predict_checked(texts)
    return probabilities if parents is None else parents.convert(probabilities), checks
